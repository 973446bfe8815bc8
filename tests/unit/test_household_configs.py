"""The household's configs: the paper's numbers are in the paper's config, the tiny ones fit each other and the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from openrlhf_ext.cli import main
from openrlhf_ext.config.check import check
from openrlhf_ext.config.load import load
from openrlhf_ext.tasks import make_task

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "examples" / "configs"
PAPER = {
    "oreo.beta": 0.03,
    "oreo.level": "token",
    "oreo.regulariser": "exact",
    "actor.adam.lr": 5e-6,
    "critic.adam.lr": 5e-6,
    "actor.adam.betas": [0.9, 0.95],
    "actor.lr_scheduler": "cosine",
    "actor.lr_warmup_ratio": 0.03,
    "actor.max_norm": 1.0,
    "train.batch_size": 128,
    "train.micro_batch_size": 2,
    "train.max_epochs": 3,
    "data.max_len": 4096,
    "ds.zero_stage": 2,
    "ds.adam_offload": True,
}


def test_the_papers_config_holds_the_papers_numbers() -> None:
    resolved = load("oreo", str(CONFIGS / "oreo_household_paper.yaml"), [], local_device="cuda")
    assert {key: resolved.get(key) for key in PAPER} == PAPER
    task = make_task(resolved.task)
    assert (task.max_turns, task.style, task.episode_tokens) == (40, "react", 4096)


def test_the_papers_config_passes_a_dry_run_where_no_engine_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = CONFIGS / "oreo_household_paper.yaml"
    assert main(["train", "oreo", "--config", str(config), "--dry-run", "--cluster", "1x8"]) == 0
    assert "household" in capsys.readouterr().out


def test_the_tiny_configs_fit_each_other() -> None:
    sft = load("sft", str(CONFIGS / "sft_household_tiny.yaml"), [])
    oreo = load("oreo", str(CONFIGS / "oreo_household_tiny.yaml"), [])
    assert check(sft) == [] and check(oreo) == []
    assert sft.flag("data.multiturn") and sft.text("data.input_key") == "messages"
    assert oreo.text("actor.model_name_or_path") == "runs/sft-household/model"
    assert sft.whole("data.max_len") == oreo.whole("data.max_len") == 1024


def test_every_option_of_the_task_is_in_the_page_and_in_the_page_of_keys() -> None:
    with pytest.raises(ValueError) as refused:
        make_task({"name": "household", "x": 1})
    known = set(re.search(r"known: (.*)", str(refused.value))[1].split(", "))  # type: ignore[index]
    page = set(re.findall(r"^\| `task\.(\w+)` \|", (ROOT / "docs/household.md").read_text(), re.M))
    keys = re.search(r"Of `household`: (.*?)\(\[household", (ROOT / "docs/config.md").read_text(), re.S)
    assert page == known
    assert set(re.findall(r"`task\.(\w+)`", keys[1])) == known  # type: ignore[index]
