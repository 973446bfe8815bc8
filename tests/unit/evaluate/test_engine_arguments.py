"""What all commands on engines share: how their end is told, and which numbers nothing can be sampled with."""

from __future__ import annotations

import pytest

from openrlhf_ext.config.problem import Problem, refuse
from openrlhf_ext.evaluate.engine_arguments import carry_out, remark
from openrlhf_ext.evaluate.option_checks import below_one, empty_texts, sampling_problems


class Wrapped(RuntimeError):
    """As Ray wraps what a worker raised."""

    cause = ValueError("no room")


def raising(error: BaseException) -> str:
    raise error


def test_work_that_is_done_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert carry_out(lambda: "3 answers\nanswers: out", "waves are in out") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("3 answers\nanswers: out\n", "")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyboardInterrupt(), "stopped; waves are in out; go on: the same command with --resume\n"),
        (OSError("full"), "failed: OSError: full\nwaves are in out; go on: the same command with --resume\n"),
        (Wrapped("far away"), "failed in the engine: ValueError: no room\n\nfar away\nwaves are in out; go on: "),
    ],
)
def test_work_that_stops_or_fails_says_how_to_go_on(
    error: BaseException, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert carry_out(lambda: raising(error), "waves are in out") == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(told)


def test_errors_are_refused_once_and_notes_are_remarked_on(capsys: pytest.CaptureFixture[str]) -> None:
    wrong, note = Problem("--n", "0", "give 1 or more"), Problem("--resume", "it starts", "", note=True)
    assert refuse([wrong, note, wrong]) == 2
    assert capsys.readouterr().err == "1 problem, nothing was started:\n--n: 0\n    fix: give 1 or more\n"
    assert refuse([wrong, Problem("--k", "0", "")], "nothing was written") == 2
    assert capsys.readouterr().err.startswith("2 problems, nothing was written:\n--n: 0\n")
    remark([wrong, note])
    assert capsys.readouterr().err == "note: --resume: it starts\n"


def test_numbers_out_of_range_are_named_with_their_option() -> None:
    assert [p.where for p in below_one([("n", 0), ("k", 1), ("limit", None), ("steps-cap", -2)])] == [
        "--n",
        "--steps-cap",
    ]
    assert sampling_problems(0.0, 1.0) == []
    assert [p.where for p in sampling_problems(float("nan"), 0.0)] == ["--temperature", "--top-p"]
    assert [p.where for p in sampling_problems(-0.1, 1.01)] == ["--temperature", "--top-p"]
    assert [p.where for p in empty_texts({"stop": ["", "x"], "delimiters": ["\n"]})] == ["--stop"]
