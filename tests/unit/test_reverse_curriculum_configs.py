"""The reverse curriculum's shipped configs: the paper's numbers literally, dry runs, and the commands that their comments give."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from openrlhf_ext import cli
from openrlhf_ext.config.check import check, errors
from openrlhf_ext.config.load import load
from openrlhf_ext.settings import split_settings

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "examples" / "configs"

SHARED = {
    "run.device": "cuda",
    "run.precision": "bf16",
    "reverse_curriculum.mode": "mixed",
    "algo.advantage.estimator": "gae",
    "algo.advantage.gamma": 1.0,
    "algo.advantage.lambd": 0.95,
    "algo.kl.use_loss": False,
    "algo.kl.estimator": "k1",
    "actor.eps_clip": 0.2,
    "critic.value_clip": 0.2,
    "actor.entropy_coef": None,
    "actor.num_gpus_per_node": 8,
    "actor.gradient_checkpointing_enable": True,
    "actor.adam.weight_decay": 0.0,
    "critic.adam.weight_decay": 0.0,
    "actor.adam.eps": 1e-8,
    "actor.max_norm": 1.0,
    "critic.max_norm": 1.0,
    "rollout.n_samples_per_prompt": 1,
    "rollout.top_p": 1.0,
    "train.micro_batch_size": 4,
    "evaluation.keep_best": True,
}
MATH = SHARED | {
    "run.seed": 42,
    "reverse_curriculum.whiten": True,
    "task.tolerance": 0.01,
    "actor.adam.lr": 3e-7,
    "critic.adam.lr": 3e-7,
    "actor.lr_scheduler": "constant",
    "critic.lr_scheduler": "constant",
    "actor.loss_agg_mode": "seq-mean-token-mean",
    "rollout.batch_size": 32,
    "train.batch_size": 32,
    "train.max_epochs": 2,
    "train.num_episodes": 10,
    "rollout.temperature": 1.0,
    "rollout.max_new_tokens": None,
    "data.max_len": 700,
}
OTHERS = SHARED | {
    "run.seed": 1234,
    "reverse_curriculum.whiten": False,
    "algo.kl.init_coef": 0.4,
    "reward.clip_range": [-5.0, 5.0],
    "actor.adam.lr": 2e-6,
    "critic.adam.lr": 1e-6,
    "actor.adam.betas": [0.9, 0.95],
    "critic.adam.betas": [0.9, 0.95],
    "actor.lr_scheduler": "cosine",
    "critic.lr_scheduler": "cosine",
    "actor.loss_agg_mode": "token-mean",
    "rollout.batch_size": 64,
    "train.batch_size": 64,
    "train.max_epochs": 1,
    "train.num_episodes": 5,
    "rollout.temperature": 0.7,
}
PAPER = {
    "gsm8k": MATH | {"task.name": "gsm8k", "algo.kl.init_coef": 0.05, "task.partial_reward": 0.2},
    "gsm8k_program": MATH | {"task.name": "gsm8k-program", "algo.kl.init_coef": 0.01, "task.partial_reward": 0.2},
    "svamp": MATH | {"task.name": "svamp", "algo.kl.init_coef": 0.05, "task.partial_reward": 0.1},
    "svamp_program": MATH | {"task.name": "svamp-program", "algo.kl.init_coef": 0.01, "task.partial_reward": 0.1},
    "mnli": OTHERS | {"task.name": "mnli-r3", "rollout.max_new_tokens": 256, "data.max_len": 256 + 256},
    "snli": OTHERS | {"task.name": "snli-r3", "rollout.max_new_tokens": 256, "data.max_len": 256 + 256},
    "race": OTHERS | {"task.name": "race", "rollout.max_new_tokens": 512, "data.max_len": 1024 + 512},
    "boardgameqa": OTHERS | {"task.name": "boardgameqa", "rollout.max_new_tokens": 1024, "data.max_len": 1024 + 1024},
}
SFT = {
    "adam.lr": 2e-5,
    "adam.betas": [0.9, 0.95],
    "lr_scheduler": "cosine",
    "lr_warmup_ratio": 0.0,
    "train.batch_size": 256,
    "train.micro_batch_size": 4,
    "run.ranks_per_node": 8,
    "run.precision": "bf16",
    "ds.zero_stage": 2,
    "data.max_len": 512,
    "data.output_key": "completion",
}


def config(name: str) -> Path:
    return CONFIGS / f"{name}.yaml"


def commands_in(path: Path) -> list[list[str]]:
    """The command lines in a config's comment that call the program."""
    comment = "\n".join(line[2:] for line in path.read_text().splitlines() if line.startswith("# "))
    return [
        shlex.split(line)[1:]
        for line in comment.replace("\\\n", " ").splitlines()
        if line.startswith("  openrlhf-ext ")
    ]


@pytest.mark.parametrize("name", sorted(PAPER))
def test_paper_configs_hold_the_published_numbers(name: str) -> None:
    expected = PAPER[name]
    resolved = load("reverse-curriculum", str(config(f"reverse_curriculum_{name}_paper")), [])
    found = {key: resolved.task.get(key[5:]) if key.startswith("task.") else resolved.get(key) for key in expected}
    assert found == expected
    folder = f"data/{expected['task.name']}"
    assert resolved.get("data.prompt_dataset") == f"{folder}/mixed.jsonl"
    assert resolved.get("eval.dataset") == f"{folder}/mixed.dev.jsonl"
    assert resolved.get("evaluation.test_dataset") == f"{folder}/test_prompts.jsonl"


@pytest.mark.parametrize(("half", "epochs", "seed"), [("math", 2, 42), ("others", 5, 1234)])
def test_sft_configs_hold_the_published_numbers(half: str, epochs: int, seed: int) -> None:
    resolved = load("sft", str(config(f"sft_reverse_curriculum_{half}_paper")), [])
    expected = SFT | {"train.max_epochs": epochs, "run.seed": seed}
    assert {key: resolved.get(key) for key in expected} == expected


@pytest.mark.parametrize("name", sorted(PAPER))
def test_what_the_comments_of_paper_configs_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The SFT step and the training for a cluster that is not there; the scripts they name are there."""
    monkeypatch.chdir(tmp_path)
    path = config(f"reverse_curriculum_{name}_paper")
    trained = [words for words in commands_in(path) if words[0] == "train"]
    assert [words[1] for words in trained] == ["sft", "reverse-curriculum"]
    for words in trained:
        words = [str(ROOT / word) if word.startswith("examples/") else word for word in words]
        assert cli.main([*words, "--dry-run", "--cluster", "1x8"]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "sft on bundles 0-7" in shown and "actor + critic + ref + engines on bundles 0-7" in shown
    sft_words, words = trained
    sft = load("sft", str(ROOT / sft_words[3]), split_settings(sft_words[4:], set())[1])
    model = load("reverse-curriculum", str(path), []).get("actor.model_name_or_path")
    assert f"{sft.get('run.dir')}/model" == model
    assert str(sft.get("data.dataset")) == f"data/{PAPER[name]['task.name']}/plain.jsonl"
    for script in re.findall(r"bash (examples/\S+\.sh)", path.read_text()):
        assert (ROOT / script).exists()


@pytest.mark.parametrize("mode", ["mixed", "staged", "plain", "adaptive"])
def test_a_baseline_is_one_flag(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "reverse-curriculum", "--config", str(config("reverse_curriculum_gsm8k_paper")), "--dry-run"]
    assert cli.main([*words, "--cluster", "1x8", "--reverse_curriculum.mode", mode]) == 0


def test_the_wrong_cluster_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "reverse-curriculum", "--config", str(config("reverse_curriculum_mnli_paper")), "--dry-run"]
    assert cli.main([*words, "--cluster", "1x4"]) == 2
    assert "8" in capsys.readouterr().err


def called(folder: Path, script: str, *words: str, **variables: str) -> list[list[str]]:
    """What a training script submits, in a folder with stand-ins for its programs."""
    stubs = folder / "stubs"
    stubs.mkdir(exist_ok=True)
    (stubs / "ray").write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$@" $\'\\n\' >>"$CALLS"\n')
    (stubs / "ray").chmod(0o755)
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")
    calls = folder / "calls"
    calls.write_text("")
    environment = os.environ | {"PATH": f"{stubs}:{os.environ['PATH']}", "CALLS": str(calls)} | variables
    subprocess.run(["bash", f"examples/scripts/{script}", *words], cwd=folder, env=environment, check=True, timeout=60)
    return [call.split("\0")[7:] for call in calls.read_text().split("\0\n\0") if call]


def mixed_rows(folder: Path, task: str, count: int) -> None:
    (folder / "data" / task).mkdir(parents=True)
    (folder / "data" / task / "mixed.jsonl").write_text("{}\n" * count)


@pytest.mark.parametrize("mode", ["mixed", "staged", "plain", "adaptive"])
def test_every_mode_gets_the_same_rollouts(mode: str, tmp_path: Path) -> None:
    """6400 rows in batches of 64: 100 steps a pass, 5 passes, 100 of the 500 steps warm-up."""
    mixed_rows(tmp_path, "mnli-r3", 6400)
    sft, ppo = called(tmp_path, "train_reverse_curriculum_others.sh", "mnli-r3", "--run.seed", "7", MODE=mode)
    assert sft[:2] == ["train", "sft"] and ppo[:2] == ["train", "reverse-curriculum"]
    settings = dict(split_settings(ppo[2:], {"--config"})[1])
    assert settings["reverse_curriculum.mode"] == mode
    assert settings["reverse_curriculum.max_steps"] == "500"
    assert settings["eval.steps"] == settings["ckpt.save_steps"] == "100"
    assert math.ceil(500 * float(settings["actor.lr_warmup_ratio"])) == 100
    assert settings["critic.lr_warmup_ratio"] == settings["actor.lr_warmup_ratio"]
    assert settings["run.seed"] == "7" and "run.seed" not in dict(split_settings(sft[2:], {"--config"})[1])
    assert settings["run.dir"] == f"runs/{mode}-mnli-r3"
    resolved = load("reverse-curriculum", str(ROOT / ppo[3]), list(settings.items()))
    assert errors(check(resolved)) == []


def test_mathematics_makes_ten_passes_and_keeps_its_sft_model(tmp_path: Path) -> None:
    """37,365 rows in batches of 32: 1167 steps a pass, 11,676 in ten. An SFT model that is there serves again."""
    mixed_rows(tmp_path, "gsm8k", 37_365)
    assert len(called(tmp_path, "train_reverse_curriculum_math.sh", "gsm8k")) == 2
    (tmp_path / "runs/sft-gsm8k/model").mkdir(parents=True)
    (tmp_path / "runs/sft-gsm8k/model/config.json").write_text("{}")
    (ppo,) = called(tmp_path, "train_reverse_curriculum_math.sh", "gsm8k", MODE="plain")
    settings = dict(split_settings(ppo[2:], {"--config"})[1])
    assert (settings["reverse_curriculum.max_steps"], settings["eval.steps"]) == ("11676", "1167")
    assert settings["actor.model_name_or_path"] == "runs/sft-gsm8k/model"


def word_problems(path: Path, count: int) -> None:
    """Rows in GSM8K's form."""
    path.parent.mkdir(parents=True)
    rows = [
        {
            "question": f"Ann has {i} pens and buys 2 boxes of 3. How many pens?",
            "answer": f"She buys 2*3 = <<2*3=6>>6 pens.\nNow she has {i}+6 = <<{i}+6={i + 6}>>{i + 6} pens.\n#### {i + 6}",
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("name", ["chain", "gsm8k", "gsm8k_program"])
def test_tiny_configs_after_their_own_commands(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line of the comment, training as a dry run; after SFT its model is there."""
    monkeypatch.chdir(tmp_path)
    if name != "chain":
        word_problems(tmp_path / "data/gsm8k/train.jsonl", 400 if name == "gsm8k" else 140)
    lines = commands_in(config(f"reverse_curriculum_{name}_tiny"))
    assert [words[1] for words in lines if words[0] == "train"] == ["sft", "reverse-curriculum"]
    for words in lines:
        words = [str(ROOT / word) if word.startswith("examples/") else word for word in words]
        dry = ["--dry-run"] if words[0] == "train" else []
        assert cli.main([*words, *dry]) == 0, capsys.readouterr().err
        if words[:2] == ["train", "sft"]:
            settings = dict(split_settings(words[4:], set())[1])
            start = settings.get("model.model_name_or_path", f"models/tiny-{name}")
            shutil.copytree(start, Path(settings["run.dir"]) / "model")
    out = capsys.readouterr().out
    assert "2 steps" in out and out.count("# plan: ") == 2
    held_out = [
        json.loads(line)
        for line in next(Path(f"data/{name.replace('_', '-')}").glob("*.dev.jsonl")).read_text().splitlines()
    ]
    assert held_out and all(row["prefix_units"] == 0 for row in held_out)


def test_tiny_sft_after_its_own_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = commands_in(config("sft_chain_tiny"))
    assert [words[0] for words in lines] == ["prepare", "prepare", "prepare", "train"]
    for words in lines:
        words = [str(ROOT / word) if word.startswith("examples/") else word for word in words]
        assert cli.main([*words, *(["--dry-run"] if words[0] == "train" else [])]) == 0
