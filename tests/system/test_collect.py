"""`collect` on the real stack: graded trajectories, the same file with two engines, and the same bytes after a SIGKILL in a wave.

Cost: three engine starts in two processes, about 60 s on 2 idle cores.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openrlhf_ext.data.offline import Reading, read_offline
from openrlhf_ext.data.trajectory import read_trajectories
from openrlhf_ext.tasks import make_task
from tests.system.toy import PROMPTS, SAMPLES, chain_row, killed_and_resumed, write_rows

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

ROWS = PROMPTS * SAMPLES
WAVE = 16


@pytest.fixture(scope="module")
def collected(toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whole.jsonl`; `two.jsonl`, of two engines and other waves; `killed.jsonl`, killed in a wave and gone on with. All with one request."""
    folder = tmp_path_factory.mktemp("collect")
    rows = [chain_row(i) | {"label": json.dumps({"answer": str(i % 10)})} for i in range(PROMPTS)]
    prompts = write_rows(folder / "prompts.jsonl", rows)

    def words(name: str, *more: str) -> list[str]:
        request = ["--task", "chain", "--prompts", str(prompts), "--n", str(SAMPLES), "--max-new-tokens", "8"]
        out = ["--out", str(folder / f"{name}.jsonl"), "--stop", "+", *more]
        return ["collect", "--model", f"toy={toy.model}", *request, "--temperature", "1", *out]

    others = [words("whole"), words("two", "--engines", "2", "--wave", "30")]
    killed_and_resumed(words("killed", "--wave", str(WAVE)), folder / "killed.jsonl", 2 * WAVE, b'{"id": "9', others)
    return folder


def test_a_killed_collection_ends_in_the_same_bytes(collected: Path) -> None:
    before, after = (collected / f"{name}.jsonl" for name in ("before", "killed"))
    kept = before.read_bytes().count(b"\n")
    assert 2 * WAVE <= kept < ROWS and kept % WAVE == 0, "the kill came too late, or in the middle of a wave's write"
    assert after.read_bytes() == (collected / "whole.jsonl").read_bytes()
    log = (collected / "jobs.log").read_text()
    assert f"resumed: {kept} of {ROWS} trajectories are there, 1 unfinished line dropped" in log


def test_the_number_of_engines_changes_nothing(collected: Path) -> None:
    assert (collected / "two.jsonl").read_bytes() == (collected / "whole.jsonl").read_bytes()


def test_rows_are_graded_trajectories_in_order(collected: Path, toy) -> None:
    from transformers import AutoTokenizer

    tokenizer, task = AutoTokenizer.from_pretrained(toy.model), make_task({"name": "chain"})
    rows = read_trajectories(collected / "whole.jsonl")
    assert [(row["problem_id"], row["sample"]) for row in rows] == [
        (p, s) for p in range(PROMPTS) for s in range(SAMPLES)
    ]
    assert 0 < sum(row["scores"] for row in rows) < ROWS, "all right or all wrong would show nothing"
    for row in rows:
        verdict = task.verify(row["text"], row["label"])
        assert (row["reward"], row["scores"]) == (verdict.reward, float(verdict.correct))
        (start, end), ids = row["action_ranges"][0], row["observation_tokens"]
        assert tokenizer(row["prompt"], add_special_tokens=False)["input_ids"] == ids[:start]
        assert end - start == 8 and ids[-1] != tokenizer.eos_token_id if row["truncated"] else end - start <= 8
        # Cut before the stop string; the tokens keep it.
        spelled = tokenizer.decode(ids[start:end], skip_special_tokens=True)
        assert row["text"] == spelled.partition("+")[0]
        assert row["step_starts"][0] == start and set(row["step_starts"]) <= set(range(start, end))
    assert any("+" in tokenizer.decode(row["observation_tokens"][row["action_ranges"][0][0] :]) for row in rows)
    assert len({row["text"] for row in rows[:SAMPLES]}) > 1, "the samples of a problem differ"


def test_offline_training_reads_them(collected: Path) -> None:
    data = read_offline(collected / "whole.jsonl", Reading(max_length=64))
    assert len(data.trajectories) == ROWS - data.dropped.get("truncated", 0) and data.tokenised == 0


def test_the_summary_is_printed(collected: Path) -> None:
    log = (collected / "jobs.log").read_text()
    assert f"{ROWS} trajectories of {PROMPTS} problems" in log and "per second" in log
    assert "problems without a correct sample" in log
