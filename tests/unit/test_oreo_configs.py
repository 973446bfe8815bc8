"""The configs of OREO: the paper's numbers are in the paper's configs, and every config passes a dry run on the cluster it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openrlhf_ext.cli import main
from openrlhf_ext.config.check import check
from openrlhf_ext.config.load import load
from openrlhf_ext.tasks import make_task

CONFIGS = Path(__file__).resolve().parents[2] / "examples/configs"
PAPER = {
    "oreo.beta": 0.03,
    "oreo.level": "token",
    "oreo.regulariser": "exact",
    "oreo.reward_low": 0.0,
    "oreo.reward_high": 1.0,
    "actor.adam.lr": 5e-6,
    "critic.adam.lr": 5e-6,
    "actor.adam.betas": [0.9, 0.95],
    "actor.adam.weight_decay": 0.0,
    "actor.lr_scheduler": "cosine",
    "critic.lr_scheduler": "cosine",
    "actor.lr_warmup_ratio": 0.03,
    "actor.max_norm": 1.0,
    "critic.max_norm": 1.0,
    "train.batch_size": 128,
    "train.micro_batch_size": 4,
    "train.max_epochs": 1,
    "data.max_len": 2048,
    "ds.zero_stage": 2,
    "ds.adam_offload": True,
}


@pytest.mark.parametrize("name", ["gsm8k", "math"])
def test_paper_configs_hold_the_papers_numbers(name: str) -> None:
    resolved = load("oreo", str(CONFIGS / f"oreo_{name}_paper.yaml"), [], local_device="cuda")
    assert {key: resolved.get(key) for key in PAPER} == PAPER
    assert resolved.task["name"] == name and resolved.precision == "bf16"
    assert resolved.oreo.alpha is None, "the level's own"


@pytest.mark.parametrize(
    ("config", "cluster"),
    [
        ("gsm8k_paper", "1x8"),
        ("math_paper", "1x8"),
        ("chain_paper", "1x1"),
        ("chain_tiny", "local"),
        ("gsm8k_tiny", "local"),
        ("math_tiny", "local"),
    ],
)
def test_every_config_passes_a_dry_run(
    config: str, cluster: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    path = CONFIGS / f"oreo_{config}.yaml"
    if cluster == "local":  # its model and data are made by the commands in it, which tests/unit/test_docs.py follows
        assert check(load("oreo", str(path), [])) == []
        return
    assert main(["train", "oreo", "--config", str(path), "--dry-run", "--cluster", cluster]) == 0
    shown = capsys.readouterr().out
    if cluster == "1x1":
        assert "128 samples = 32 per micro-batch x 4 accumulated" in shown
        return
    assert "actor + critic on bundles 0-7" in shown
    assert "128 samples = 4 per micro-batch x 4 accumulated x 8 data-parallel ranks" in shown


def test_the_step_level_of_math_cuts_after_lines_and_sentences() -> None:
    from openrlhf_ext.data.steps import MATH_DELIMITERS
    from openrlhf_ext.offline_data import splitter

    text = (CONFIGS / "oreo_math_paper.yaml").read_text()
    commented = next(line for line in text.splitlines() if "# delimiters" in line)
    assert commented.strip() == r'# delimiters: ["\n", ". ", ".$ "] # after lines and sentences, as for MATH'
    settings = [("oreo.level", "step"), ("task.name", "math")]
    resolved = load("oreo", str(CONFIGS / "oreo_math_paper.yaml"), settings, local_device="cuda")
    assert MATH_DELIMITERS == ("\n", ". ", ".$ ")
    split = splitter(resolved)
    assert split is not None and "".join(split("a = 1. So\n$b$.")) == "a = 1. So\n$b$."


@pytest.mark.parametrize(("name", "file"), [("gsm8k", "oreo_word_problems"), ("math", "oreo_math_answers")])
def test_the_shipped_answers_are_graded_right(name: str, file: str) -> None:
    """The tiny configs' rows carry the rewards that the task gives, and hold failures enough."""
    task = make_task({"name": name})
    rows = [json.loads(line) for line in (CONFIGS.parent / f"data/{file}.jsonl").read_text().splitlines()]
    assert [task.verify(row["response"], row["label"]).reward for row in rows] == [float(row["reward"]) for row in rows]
    assert len(rows) >= 48 and 0.25 <= sum(row["reward"] == 0 for row in rows) / len(rows) <= 0.75
