"""`explore` on the real stack: the same file with two engines and other waves, and the same bytes after a SIGKILL in the middle of a wave.

Cost: three engine starts in two processes, about 60 s on 2 idle cores.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openrlhf_ext.cli import main
from openrlhf_ext.data.explore_file import read_explored
from openrlhf_ext.tasks import make_task
from tests.system.toy import killed_and_resumed, write_rows

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

SOLUTIONS, K, CONFIRM, WAVE = 96, 3, 2, 24
"""The prefixes of a level have more tokens than an engine takes in one step: seeded prompts must not be cut there."""
TASK = {"name": "chain", "tolerance": 2}  # the toy says `#### ` and any digit: 3 to 6 are right


def pair(i: int) -> dict[str, object]:
    """A wrong solution of up to four lines, the last of every other one an answer."""
    lines = [f"{i % 7}+{j}={j}\n" for j in range(1 + i % 4)] + (["#### 9\n"] if i % 2 else [])
    meta = {"label": json.dumps({"answer": "4.5"}), "task": "chain", "problem_id": i // 2}
    return {"prompt": f"{i}+{7 * i % 10} mod 100\n", "chosen": "#### 5", "rejected": "".join(lines), "meta": meta}


@pytest.fixture(scope="module")
def explored(toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whole.jsonl`; `two.jsonl`, of two engines and other waves; `killed.jsonl`, killed in a wave and gone on with. All with one request."""
    folder = tmp_path_factory.mktemp("explore")
    pairs = write_rows(folder / "pairs.jsonl", [pair(i) for i in range(SOLUTIONS)])

    def words(name: str, *more: str) -> list[str]:
        request = ["--pairs", str(pairs), "--k", str(K), "--confirm", str(CONFIRM), "--max-new-tokens", "8"]
        how = ["--task.tolerance", "2", "--temperature", "1", "--out", str(folder / f"{name}.jsonl"), *more]
        return ["explore", "--model", f"toy={toy.model}", *request, *how]

    steps = 1 + SOLUTIONS + 2 * WAVE // K
    others = [words("whole"), words("two", "--engines", "2", "--wave", "40")]
    killed_and_resumed(words("killed", "--wave", str(WAVE)), folder / "killed.jsonl", steps, b'{"kind": "st', others)
    return folder


def test_a_killed_exploration_ends_in_the_same_bytes(explored: Path) -> None:
    before, after = (explored / f"{name}.jsonl" for name in ("before", "killed"))
    whole = (explored / "whole.jsonl").read_bytes()
    assert before.read_bytes().count(b"\n") < whole.count(b"\n"), "the kill came too late"
    assert after.read_bytes() == whole
    assert "an unfinished line dropped" in (explored / "jobs.log").read_text()


def test_engines_and_waves_change_nothing(explored: Path) -> None:
    assert (explored / "two.jsonl").read_bytes() == (explored / "whole.jsonl").read_bytes()


def test_pits_are_decided_by_the_stored_verdicts(explored: Path) -> None:
    task = make_task(TASK)
    walks = read_explored(explored / "whole.jsonl").walks
    assert len(walks) == SOLUTIONS and {walk.end for walk in walks} == {"pit", "none"}
    assert len({walk.pit for walk in walks}) > 2, "all pits at one step would show nothing"
    for walk in walks:
        steps = sorted(walk.completions)
        assert steps == list(range(1, len(steps) + 1)) and (walk.pit or 99) >= max(steps, default=0)
        for step in steps:
            completions = walk.completions[step]
            assert [c["correct"] for c in completions] == [
                task.verify(c["text"], walk.solution.label).correct for c in completions
            ]
            passed = any(c["correct"] for c in completions)
            assert len(completions) in ((K, K + CONFIRM) if passed else (K + CONFIRM,))
            assert passed == (step != walk.pit)
        if walk.solution.answered and walk.pit == len(walk.solution.steps):
            assert walk.pit not in walk.completions


def test_the_figures_are_kept_and_printed(explored: Path) -> None:
    summary = json.loads((explored / "whole.jsonl.summary.json").read_text())
    assert summary["solutions"] == SOLUTIONS and 0 < summary["share"] < 1.5 and summary["tokens"] > 0
    assert 0 < summary["cache_hit_rate"] <= 1, (
        "the longest prefixes fill a block, which the completions of a prefix share"
    )
    assert "pits by step: 1: " in (explored / "jobs.log").read_text()


def test_pairs_are_made_of_it(explored: Path) -> None:
    out = explored / "steps.jsonl"
    assert main(["prepare", "pairs", "--kind", "step", "--in", str(explored / "whole.jsonl"), "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows and all(row["rejected"].strip() and row["prompt"].endswith("\n") for row in rows)
