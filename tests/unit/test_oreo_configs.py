"""The configs of OREO: the paper's numbers are in the paper's configs, and every config passes a dry run on the cluster it names."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from openrlhf_ext.cli import main
from openrlhf_ext.config.check import check, errors
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
        ("math_deepseek_paper", "1x8"),
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
    layout = "2 per micro-batch x 8" if "deepseek" in config else "4 per micro-batch x 4"
    assert f"128 samples = {layout} accumulated x 8 data-parallel ranks" in shown


def test_the_7b_config_holds_the_papers_numbers() -> None:
    resolved = load("oreo", str(CONFIGS / "oreo_math_deepseek_paper.yaml"), [], local_device="cuda")
    differing = {"critic.adam.lr": 1e-4, "train.micro_batch_size": 2, "train.max_epochs": 2}
    assert {key: resolved.get(key) for key in PAPER} == PAPER | differing
    assert (resolved.oreo.critic_lora_rank, resolved.oreo.critic_lora_alpha, resolved.oreo.per_problem) == (64, 64, 4)


@pytest.mark.parametrize(("name", "epochs", "length"), [("math", 3, 8192), ("household", 2, 4096)])
def test_sft_configs_hold_the_papers_numbers(name: str, epochs: int, length: int) -> None:
    resolved = load("sft", str(CONFIGS / f"sft_oreo_{name}_paper.yaml"), [], local_device="cuda")
    assert (resolved.whole("train.max_epochs"), resolved.number("adam.lr")) == (epochs, 2e-5)
    assert resolved.whole("data.max_len") == length and resolved.precision == "bf16"
    assert errors(check(resolved)) == []


@pytest.mark.parametrize("task", ["gsm8k", "math"])
def test_answers_are_collected_in_the_words_of_the_suite_that_evaluates(task: str, tmp_path: Path) -> None:
    """SFT, collection and search of the Qwen runs must show the model one and the same prompt."""
    suite = yaml.safe_load((CONFIGS.parents[1] / f"evaluation/suites/{task}_chat.yaml").read_text())
    (collected,) = called(tmp_path, "collect_oreo.sh", task)
    assert option(collected, "--system") == suite["system"] and option(collected, "--template") == suite["template"]
    (own,) = called(tmp_path, "collect_oreo.sh", task, TEMPLATE="deepseek-math")
    assert option(own, "--system") is None and option(own, "--template") == "deepseek-math"
    rendered = [words for words in called(tmp_path, "sft_oreo.sh", "math") if words[0] == "prepare"]
    (ours,) = [words for words in rendered if f"data/{task}/train.jsonl" in words]
    assert option(ours, "--system") == suite["system"] and option(ours, "--template") == suite["template"]
    (searched,) = called(tmp_path, "search_oreo.sh", task)
    assert option(searched, "--suite") == f"{task}_chat"


def called(folder: Path, script: str, *words: str, **variables: str) -> list[list[str]]:
    """What a script calls, in a checkout without an environment of its own; nothing is run."""
    checkout, stubs, calls = folder / "checkout", folder / "stubs", folder / "calls"
    if not checkout.exists():
        (checkout / "examples").mkdir(parents=True)
        (checkout / "evaluation").symlink_to(CONFIGS.parents[1] / "evaluation")
        shutil.copytree(CONFIGS.parent / "scripts", checkout / "examples/scripts")
        stubs.mkdir()
        stub = stubs / "openrlhf-ext"
        stub.write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$@" $\'\\n\' >>"$CALLS"\n')
        stub.chmod(0o755)
    calls.write_text("")
    environment = {"PATH": f"{stubs}:/usr/bin:/bin", "CALLS": str(calls), "LOCAL": "1"} | variables
    subprocess.run(["bash", f"examples/scripts/{script}", *words], check=True, cwd=checkout, env=environment)
    return [call.split("\0") for call in calls.read_text().split("\0\n\0") if call]


def option(words: list[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words else None


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
