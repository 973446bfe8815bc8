"""The output folder: whole groups only after a kill, one writer, and no mixing of two evaluations."""

import json
from pathlib import Path

import pytest

from openrlhf_ext.evaluate.results import ModelResults, Results, out_problems, pending, resume_problems

SIZES = {"greedy": 1, "sampled": 2}
RECORD: dict[str, object] = {"name": "game24", "split": "test", "models": {"m": "f1"}}


def row(mode: str, problem: int, sample: int = 0) -> dict:
    return {"mode": mode, "problem_id": problem, "sample": sample, "correct": True}


def written(tmp_path: Path, lines: list[dict], tail: str = "") -> ModelResults:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
    return ModelResults(tmp_path / "m")


def test_recover_keeps_whole_groups_and_drops_what_a_kill_left(tmp_path: Path):
    lines = [
        row("greedy", 0),
        row("greedy", 1),
        row("sampled", 0, 0),
        row("sampled", 0, 1),
        row("sampled", 1, 0),  # its second answer never came
    ]
    results = written(tmp_path, lines, tail='{"mode": "sampled", "probl')
    assert results.recover(SIZES) == 2  # the lonely answer and the torn line
    assert results.done("greedy") == {0, 1} and results.done("sampled") == {0}
    on_disk = (tmp_path / "m" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in on_disk] == lines[:4]
    assert ModelResults(tmp_path / "m").recover(SIZES) == 0


def test_recover_drops_repeated_answers(tmp_path: Path):
    results = written(tmp_path, [row("greedy", 0), row("greedy", 0), row("greedy", 1)])
    assert results.recover(SIZES) == 1
    assert [r["problem_id"] for r in results.select("greedy", 10)] == [0, 1]


def test_selection_is_ordered_and_limited(tmp_path: Path):
    results = written(tmp_path, [])
    results.append(
        [row("sampled", 2, 1), row("sampled", 2, 0), row("greedy", 1), row("sampled", 0, 0), row("sampled", 0, 1)]
    )
    chosen = results.select("sampled", 3)
    assert [(r["problem_id"], r["sample"]) for r in chosen] == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert [r["problem_id"] for r in results.select("sampled", 2)] == [0, 0]


def test_pending_is_what_is_not_done():
    assert pending(5, {0, 3}) == [1, 2, 4]


def test_a_folder_is_used_for_one_evaluation(tmp_path: Path):
    out = tmp_path / "out"
    assert out_problems(out, resume=False) == []
    assert [p.note for p in out_problems(out, resume=True)] == [True]
    Results(out, RECORD).close()
    assert "already holds an evaluation" in str(out_problems(out, resume=False)[0])
    assert out_problems(out, resume=True) == []
    assert resume_problems(out, RECORD) == []


def test_foreign_folders_are_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("x")
    assert "holds no evaluation" in str(out_problems(tmp_path, resume=True)[0])
    assert "is a file" in str(out_problems(tmp_path / "thesis.tex", resume=False)[0])


def test_resuming_with_another_request_names_every_difference(tmp_path: Path):
    out = tmp_path / "out"
    Results(out, RECORD).close()
    found = resume_problems(out, {"name": "chain", "split": "train", "models": {"m": "f2", "n": "f3"}})
    said = "\n".join(map(str, found))
    assert len(found) == 3
    assert "'game24'" in said and "'chain'" in said and "'train'" in said and "f2" in said


def test_a_later_command_may_add_models(tmp_path: Path):
    out = tmp_path / "out"
    Results(out, RECORD).close()
    more = RECORD | {"models": {"n": "f3"}}
    assert resume_problems(out, more) == []
    Results(out, more).close()
    assert json.loads((out / "evaluation.json").read_text())["models"] == {"m": "f1", "n": "f3"}


def test_two_writers_are_refused(tmp_path: Path):
    import subprocess
    import sys

    first = Results(tmp_path / "out", RECORD)
    code = (
        "import sys; from pathlib import Path; from openrlhf_ext.evaluate.results import Results\n"
        f"Results(Path({str(tmp_path / 'out')!r}), {RECORD!r})"
    )
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert second.returncode == 1 and "being written by another process" in second.stderr
    first.close()
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_append_needs_no_recover(tmp_path: Path):
    results = written(tmp_path, [])
    results.append([row("greedy", 0)])
    with pytest.raises(TypeError):
        results.append([row("greedy", 1) | {"text": object()}])
    assert ModelResults(tmp_path / "m").recover(SIZES) == 0
