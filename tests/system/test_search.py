"""`search` on the real stack: beams and best-of-K beside greedy answers, values of a Ray worker, a SIGKILL and `--resume`.

Cost: two engine starts, about 50 s on 2 idle cores.
"""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path

import pytest

from tests.system.toy import PROMPTS, Job, chain_row, environment, write_rows

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

NEW_TOKENS = 8
ARMS = ("greedy", "beams-1", "beams-3")


@pytest.fixture(scope="module")
def value(toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A value network of the policy's trunk with a random head, in the form in which `train oreo` saves one."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path_factory.mktemp("value") / "value"
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(toy.model, num_labels=1, dtype=torch.float32)
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(toy.model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def searched(toy, value: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`killed`: beams, killed and gone on with; `whole`: the same without a kill; `best`: best-of-4."""
    folder = tmp_path_factory.mktemp("search")
    rows = [chain_row(i) | {"label": json.dumps({"answer": str(i % 10)})} for i in range(PROMPTS)]
    write_rows(folder / "prompts.jsonl", rows)
    suite = {"task": {"name": "chain"}, "data": str(folder / "prompts.jsonl"), "form": "prompts"}
    (folder / "toy.yaml").write_text(json.dumps(suite | {"max_new_tokens": NEW_TOKENS}))

    def words(name: str, *how: str) -> list[str]:
        who = ["--policy", f"toy={toy.model}", "--value", str(value), "--suite", str(folder / "toy.yaml")]
        return ["search", *who, *how, "--delimiters", "=", "#### ", "--out", str(folder / name), "--wave", "18"]

    beams = ["--beams", "1", "3", "--max-steps", "4"]
    job = Job(words("killed", *beams), folder / "killed.log", environment())
    results = folder / "killed" / "beams-3" / "results.jsonl"
    try:
        job.until(lambda: results.exists() and results.read_bytes().count(b"\n") >= 4, "answer of three beams")
    finally:
        job.signal(signal.SIGKILL)
        job.process.wait()
    (folder / "before.jsonl").write_bytes(results.read_bytes())
    jobs = [[*words("killed", *beams), "--resume"], words("whole", *beams), words("best", "--best-of", "4")]
    (folder / "all.jobs").write_text("\n".join(shlex.join(job) for job in jobs))
    job = Job(["jobs", str(folder / "all.jobs")], folder / "jobs.log", environment())
    assert job.wait() == 0, job.output()[-5000:]
    return folder


def rows_of(folder: Path, arm: str) -> list[dict]:
    rows = [json.loads(line) for line in (folder / arm / "results.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["search"].pop("seconds") > 0
    return rows


def test_a_killed_search_ends_as_an_uninterrupted_one(searched: Path) -> None:
    before = (searched / "before.jsonl").read_bytes().count(b"\n")
    assert 4 <= before < PROMPTS, "the kill came too late to show anything"
    for arm in ARMS:
        killed, whole = rows_of(searched / "killed", arm), rows_of(searched / "whole", arm)
        assert [row["problem_id"] for row in killed] == list(range(PROMPTS))
        for one, other in zip(killed, whole, strict=True):
            # Values may differ in the last digits with what shares a batch.
            a, b = one["search"].pop("value", None), other["search"].pop("value", None)
            assert a == pytest.approx(b, abs=1e-4)
            for row in (one, other):
                for candidate in row["search"].pop("candidates", []):
                    assert candidate["value"] <= (a if a is not None else 0) + 1e-4
        assert killed == whole


def test_the_answer_is_the_finished_one_of_the_highest_value(searched: Path) -> None:
    for folder, arm in (("whole", "beams-3"), ("best", "best-of-4")):
        rows = rows_of(searched / folder, arm)
        answered = [row for row in rows if row["search"]["finished"]]
        assert answered, "nothing finished"
        for row in answered:
            first = row["search"]["candidates"][0]
            assert (row["text"], row["correct"]) == (first["text"], first["correct"])
            assert row["search"]["value"] == first["value"] == max(c["value"] for c in row["search"]["candidates"])
        assert any(len(row["search"]["candidates"]) > 1 for row in answered), "there was never a choice"


def test_values_are_those_of_the_network_at_the_last_token(searched: Path, value: Path) -> None:
    """Read again by transformers alone, on the text without an end token."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    network = AutoModelForSequenceClassification.from_pretrained(value, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(value)
    compared = 0
    for row in rows_of(searched / "best", "best-of-4"):
        for candidate in row["search"]["candidates"]:
            ids = [
                tokenizer(text, add_special_tokens=False)["input_ids"] for text in (row["prompt"], candidate["text"])
            ]
            with torch.no_grad():
                hidden = network.model(torch.tensor([ids[0] + ids[1]])).last_hidden_state
            compared += abs(network.score(hidden)[0, -1, 0].item() - candidate["value"]) < 1e-3
    total = sum(len(row["search"]["candidates"]) for row in rows_of(searched / "best", "best-of-4"))
    assert compared > 0.9 * total, "up to texts that the tokenizer would cut otherwise"


def test_counts_add_up(searched: Path) -> None:
    for row in rows_of(searched / "whole", "beams-3"):
        counts = row["search"]
        assert counts["proposed"] == counts["values_read"] + counts["duplicates"] + counts["cut"]
        assert counts["proposed"] % 3 == 0 and counts["proposed"] <= 3 + 3 * 9  # one start, then at most three beams
    assert sum(row["search"]["duplicates"] for row in rows_of(searched / "whole", "beams-3")) > 0


def test_tables_compare_with_greedy(searched: Path) -> None:
    figures = json.loads((searched / "whole" / "summary.json").read_text())
    assert list(figures["arms"]) == list(ARMS) and set(figures["against_first"]) == {"beams-1", "beams-3"}
    assert figures["arms"]["beams-3"]["search/generated"] > figures["arms"]["beams-1"]["search/generated"]
    text = (searched / "whole" / "summary.md").read_text()
    assert "against greedy" in text and "| per problem |" in text
    assert text in (searched / "jobs.log").read_text()
