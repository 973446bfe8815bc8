"""Collecting with a played model: a fixed order, the same bytes after a kill anywhere and for any waves, steps in the sampled tokens."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from openrlhf_ext.collect.growing import GrowingFile, out_problems, request_file, resume_problems
from openrlhf_ext.collect.run import _known, fill
from openrlhf_ext.collect.sampling import SamplePlan
from openrlhf_ext.collect.steps import _by_prefixes
from openrlhf_ext.collect.tally import Tally
from openrlhf_ext.data.trajectory import read_trajectories
from openrlhf_ext.evaluate.asking import Ask, request_seed
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.rollout.prompts import Prompt

PROMPTS = tuple(Prompt(i, f"{i}+1 mod 100\n", json.dumps({"answer": str(i + 1)}), "chain") for i in range(5))
REQUEST = {"command": "collect", "model": "m@1", "samples": 3, "stop": ()}


class Killed(RuntimeError):
    """The process died here."""


class FakeModel:
    """Answers from the seed alone: right where the seed is even. Dies at the wave after ``lives``."""

    def __init__(self, lives: int = 10**6) -> None:
        self.lives, self.waves = lives, []

    def __call__(self, asks: Sequence[Ask]) -> list[dict]:
        if len(self.waves) == self.lives:
            raise Killed
        self.waves.append([(ask.prompt.problem_id, ask.sample) for ask in asks])
        return [self.response(ask, 0.25 * len(self.waves)) for ask in asks]

    @staticmethod
    def response(ask: Ask, clock: float) -> dict:
        right = float(ask.seed % 2 == 0)
        return {
            "prompt": ask.prompt.text,
            "label": ask.prompt.label,
            "images": None,
            "text": f"{ask.seed}\n#### 1",
            "observation_tokens": [7, 8, 9, ask.seed % 5, 0],
            "action_ranges": [(2, 5)],
            "rollout_log_probs": None,
            "reward": right,
            "scores": right,
            "truncated": ask.seed % 3 == 0,
            "extra_logs": {"correct": right, "verify_seconds": clock},
            "verifier_error": None,
            "wrong_lines": None,
        }


def plan(wave: int = 4, problems: int = 5) -> SamplePlan:
    return SamplePlan(problems=problems, samples=3, wave=wave, temperature=0.7, seed=42)


def run(path: Path, model: FakeModel, wave: int = 4, problems: int = 5) -> tuple[Tally, GrowingFile]:
    tally, asked = Tally(), plan(wave, problems)
    with GrowingFile(path, REQUEST, lambda i, row: _known(path, asked, tally, i, row)) as file:
        with Progress(asked.total, "test", io.StringIO(), done_steps=file.rows) as progress:
            fill(
                file,
                model,
                PROMPTS[:problems],
                asked,
                tally,
                progress,
                "chain",
                "m@1",
                lambda tokens, text: [0, len(tokens) - 1],
            )
    return tally, file


def test_rows_come_problem_by_problem_and_are_trajectories(tmp_path: Path) -> None:
    run(tmp_path / "rows.jsonl", FakeModel())
    rows = read_trajectories(tmp_path / "rows.jsonl")  # refuses what is none
    assert [(row["problem_id"], row["sample"]) for row in rows] == [(p, s) for p in range(5) for s in range(3)]
    assert [row["id"] for row in rows[:4]] == ["0-0", "0-1", "0-2", "1-0"]
    first = rows[0]
    assert (first["task"], first["policy"], first["prompt"]) == ("chain", "m@1", "0+1 mod 100\n")
    assert first["step_starts"] == [2, 4]  # counted from the prompt's first token
    assert first["extra_logs"] == {"correct": first["reward"]}  # no clock: the file would differ from run to run
    assert "verifier_error" not in first and "images" not in first


@pytest.mark.parametrize("wave", [1, 2, 3, 7, 100])
def test_the_file_does_not_depend_on_the_waves(tmp_path: Path, wave: int) -> None:
    run(tmp_path / "whole.jsonl", FakeModel())
    model = FakeModel()
    run(tmp_path / "rows.jsonl", model, wave)
    assert (tmp_path / "rows.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert max(map(len, model.waves)) == min(wave, 15)


@pytest.mark.parametrize("lives", range(4))
@pytest.mark.parametrize("torn", [0, 1, 60])
def test_a_killed_collection_goes_on_to_the_same_bytes(tmp_path: Path, lives: int, torn: int) -> None:
    """The kill comes between waves (torn 0) or in the middle of a write, which leaves part of a line."""
    whole, path = tmp_path / "whole.jsonl", tmp_path / "rows.jsonl"
    run(whole, FakeModel())
    with pytest.raises(Killed):
        run(path, FakeModel(lives))
    assert path.read_bytes().count(b"\n") == 4 * lives  # whole waves only
    line = whole.read_bytes().splitlines(keepends=True)[4 * lives]
    with path.open("ab") as file:
        file.write(line[:torn])
    again = FakeModel()
    _, file = run(path, again)
    assert path.read_bytes() == whole.read_bytes()
    assert file.dropped == (torn > 0)
    assert sum(map(len, again.waves)) == 15 - 4 * lives  # nothing was asked twice


def test_waves_end_where_those_of_an_uninterrupted_run_do() -> None:
    sizes = [[(a.prompt.problem_id, a.sample) for a in wave] for wave in plan().waves(PROMPTS, done=5)]
    assert sizes[0] == [(1, 2), (2, 0), (2, 1)] and [len(wave) for wave in sizes] == [3, 4, 3]
    assert not list(plan().waves(PROMPTS, done=15))


def test_every_response_has_a_seed_of_its_own() -> None:
    asks = [ask for wave in plan().waves(PROMPTS) for ask in wave]
    assert len({ask.seed for ask in asks}) == 15
    assert asks[4].seed == request_seed(42, 1, 1)


def test_more_problems_are_added_behind(tmp_path: Path) -> None:
    run(tmp_path / "rows.jsonl", FakeModel(), problems=2)
    few = (tmp_path / "rows.jsonl").read_bytes()
    run(tmp_path / "rows.jsonl", FakeModel())
    run(tmp_path / "whole.jsonl", FakeModel())
    more = (tmp_path / "rows.jsonl").read_bytes()
    assert more.startswith(few) and more == (tmp_path / "whole.jsonl").read_bytes()


def test_a_broken_line_before_the_last_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    run(path, FakeModel())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b'{"id": \n', *lines[4:]]))
    with pytest.raises(ValueError, match=r"rows\.jsonl:4: not a JSON object"):
        run(path, FakeModel())
    path.write_bytes(b"".join([*lines[:3], lines[7]]))
    with pytest.raises(ValueError, match=r"rows\.jsonl:4: row '2-1' where '1-0' belongs"):
        run(path, FakeModel())


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with GrowingFile(path, REQUEST, lambda i, row: None):
        with pytest.raises(RuntimeError, match="being written by another process"):
            GrowingFile(path, REQUEST, lambda i, row: None)
    GrowingFile(path, REQUEST, lambda i, row: None).close()


def test_resume_refuses_another_request(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert resume_problems(path, REQUEST) == []
    run(path, FakeModel())
    assert json.loads(request_file(path).read_text())["model"] == "m@1"
    assert resume_problems(path, REQUEST) == []  # a tuple there, a list in the file
    changed = resume_problems(path, REQUEST | {"model": "m@2", "samples": 4})
    assert [problem.where for problem in changed] == ["--resume: model", "--resume: samples"]
    assert "'m@1'" in changed[0].what and "'m@2'" in changed[0].what


def test_where_rows_may_be_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    assert out_problems(path, resume=False) == []
    assert [problem.note for problem in out_problems(path, resume=True)] == [True]
    assert "is no .jsonl file" in out_problems(tmp_path / "rows.parquet", resume=False)[0].what
    run(path, FakeModel())
    assert "already holds rows" in out_problems(path, resume=False)[0].what
    assert out_problems(path, resume=True) == []
    request_file(path).unlink()
    assert "nobody knows what was asked" in out_problems(path, resume=True)[0].what


def test_tally_counts_what_a_person_wants_to_know() -> None:
    def row(problem: int, score: float, **more: object) -> dict:
        return {"problem_id": problem, "scores": score, "truncated": False, "action_ranges": [[2, 6]]} | more

    tally = Tally()
    for given in (row(0, 1.0), row(0, 0.0, truncated=True), row(1, 1.0), row(1, 1.0), row(2, 0.0, verifier_error="x")):
        tally.add(given)
    figures = tally.figures()
    assert (figures["trajectories"], figures["problems"], figures["tokens"]) == (5, 3, 20)
    assert (figures["success"], figures["truncated"]) == (0.6, 0.2)
    assert (figures["no_correct"], figures["no_wrong"]) == (1, 1)  # problem 2; problem 1
    assert "60.0% correct, 20.0% truncated, 4 tokens each" in tally.text()
    assert "without a correct sample: 1, without a wrong one: 1" in tally.text() and "failed on 1" in tally.text()
    assert Tally().figures()["success"] == 0.0


def test_offsets_from_decoded_prefixes() -> None:
    # Three tokens spell "a" and the two bytes of "é", of which the first alone is no character; the last adds "b".
    spelled = ["", "a", "a\ufffd", "aé", "aéb"]
    assert _by_prefixes(4, lambda count: spelled[count], 3) == [(0, 1), (1, 1), (1, 2), (2, 3)]
