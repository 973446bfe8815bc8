"""The real stack, small: a model of 0.1 M parameters, prompts that need no knowledge, and the command line as a user runs it."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from openrlhf_ext.record.run_dir import read_metrics

PROMPTS = 24
SAMPLES = 8
BATCH = 8

REPEATABLE: dict[str, object] = {
    "rollout__top_p": 1e-6,  # a nucleus of one token: the same answers in every run
    "grpo__max_momentum": 0.95,  # groups without spread still teach, and the normaliser has a state to lose
    "actor__lr_scheduler": "cosine_with_min_lr",
    "algo__kl__init_coef": 0,  # no reference: one process less in each of many starts
    "grpo__max_steps": 8,
    "ckpt__save_steps": 2,
    "ckpt__max_num": 2,
}
"""Settings under which two runs are the same run."""


@dataclass(frozen=True)
class Toy:
    """A chain task whose every readable number earns 1: a model only has to learn to end with `#### ` and a digit."""

    model: Path
    prompts: Path

    def grpo(self, directory: Path, **settings: object) -> list[str]:
        """Words of a GRPO run of 64 short samples a step; ``settings`` are keys with `__` for dots."""
        plain = {
            "run.dir": directory,
            "run.seed": 3,
            "run.tensorboard": False,
            "task.name": "chain",
            "task.partial_reward": 1,
            "actor.model_name_or_path": self.model,
            "actor.adam.lr": 3e-3,
            "actor.lr_scheduler": "constant",
            "actor.lr_warmup_ratio": 0,
            "algo.kl.init_coef": 0.001,
            "data.prompt_dataset": self.prompts,
            "data.max_len": 32,
            "grpo.max_steps": 8,
            "rollout.batch_size": BATCH,
            "rollout.n_samples_per_prompt": SAMPLES,
            "rollout.micro_batch_size": BATCH * SAMPLES,
            "rollout.max_new_tokens": 4,
            "train.batch_size": BATCH * SAMPLES,
            "train.micro_batch_size": BATCH * SAMPLES,
        }
        return ["train", "grpo", *as_words(plain | {key.replace("__", "."): value for key, value in settings.items()})]

    def reverse_curriculum(self, directory: Path, **settings: object) -> list[str]:
        """Words of a reverse-curriculum run of 16 short samples a step; what is right is said by `start_state_row`."""
        plain = {
            "run.dir": directory,
            "run.seed": 3,
            "run.tensorboard": False,
            "task.name": "chain",
            "task.partial_reward": 0.2,
            "task.tolerance": 4.5,
            "actor.model_name_or_path": self.model,
            "actor.adam.lr": 1e-3,
            "actor.lr_scheduler": "constant",
            "actor.lr_warmup_ratio": 0,
            "critic.adam.lr": 3e-3,
            "critic.lr_scheduler": "constant",
            "critic.lr_warmup_ratio": 0,
            "algo.kl.init_coef": 0.001,
            "data.prompt_dataset": self.prompts,
            "data.max_len": 32,
            "reverse_curriculum.max_steps": 8,
            "rollout.batch_size": BATCH,
            "rollout.n_samples_per_prompt": 2,
            "rollout.micro_batch_size": BATCH * 2,
            "rollout.max_new_tokens": 4,
            "train.batch_size": BATCH * 2,
            "train.micro_batch_size": BATCH * 2,
        }
        words = as_words(plain | {key.replace("__", "."): value for key, value in settings.items()})
        return ["train", "reverse-curriculum", *words]

    def sft(self, directory: Path, data: Path, **settings: object) -> list[str]:
        """Words of an SFT run of 6 updates of 8 rows."""
        plain = {
            "run.dir": directory,
            "run.seed": 3,
            "run.tensorboard": False,
            "model.model_name_or_path": self.model,
            "data.dataset": data,
            "data.input_key": "input",
            "data.max_len": 32,
            "adam.lr": 3e-3,
            "lr_scheduler": "constant",
            "lr_warmup_ratio": 0,
            "train.max_epochs": 2,
            "train.batch_size": 8,
            "train.micro_batch_size": 4,
        }
        return ["train", "sft", *as_words(plain | {key.replace("__", "."): value for key, value in settings.items()})]


def as_words(settings: dict[str, object]) -> list[str]:
    """`--key value` words; a truth value as YAML writes it."""
    return [w for key, v in settings.items() for w in (f"--{key}", str(v).lower() if isinstance(v, bool) else str(v))]


def chain_row(i: int) -> dict[str, object]:
    return {"input": f"{i}+{7 * i % 10} mod 100\n", "label": json.dumps({"answer": "777"}), "datasource": "chain"}


def write_rows(path: Path, rows: Sequence[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def talk_numbers_half_the_time(model: Path, prompts: Sequence[str]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    chance = random.Random(0)
    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(60):
        texts = [
            chance.choice(prompts) + ("#### {}" if i % 2 else "{}+{}=").replace("{}", str(chance.randrange(10)))
            for i in range(16)
        ]
        batch = tokenizer([text + tokenizer.eos_token for text in texts], return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    network.save_pretrained(model)


class Job:
    """A command line in a process of its own, its output in a file."""

    def __init__(self, words: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.log, self.started = log, time.monotonic()
        with open(log, "w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "openrlhf_ext", *words],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def wait(self, timeout: float = 600) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout} s:\n{self.output()[-4000:]}")

    def until(self, condition: Callable[[], object], what: str, timeout: float = 600, every: float = 0.01) -> None:
        """Wait for ``condition``; fails with the output if the job ends first or ``timeout`` passes."""
        end = time.monotonic() + timeout
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"no {what}; exit code {self.process.poll()}:\n{self.output()[-4000:]}")
            time.sleep(every)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def output(self) -> str:
        return self.log.read_text(errors="replace")


def killed_and_resumed(killed: list[str], out: Path, lines: int, torn: bytes, others: Sequence[list[str]]) -> None:
    """Kill the command ``killed`` once ``out`` has ``lines`` lines, tear the last one, and go on beside the ``others`` in one process.

    Beside ``out``: `before.jsonl`, what it held after the kill; `jobs.log`, what the second process said.
    """
    folder = out.parent
    job = Job(killed, folder / "killed.log", environment())
    try:
        job.until(lambda: out.exists() and out.read_bytes().count(b"\n") >= lines, "second wave")
    finally:
        job.signal(signal.SIGKILL)
        job.process.wait()
    (folder / "before.jsonl").write_bytes(out.read_bytes())
    with out.open("ab") as file:
        file.write(torn)  # what a kill in the middle of a write leaves
    (folder / "all.jobs").write_text("\n".join(shlex.join(words) for words in [[*killed, "--resume"], *others]))
    job = Job(["jobs", str(folder / "all.jobs")], folder / "jobs.log", environment())
    assert job.wait() == 0, job.output()[-5000:]


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without a Ray cluster, offline."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"} | variables


def rows_of(directory: Path) -> list[dict]:
    """The metric rows written so far."""
    path = directory / "metrics.jsonl"
    return read_metrics(path) if path.exists() else []


def start_state_row(i: int, stage: int) -> dict[str, object]:
    """Problem ``i`` with ``stage`` of two lines already written. The further on, the more digits are right: none, 0 to 6, all."""
    label = json.dumps({"answer": ("777", "2", "4.5")[stage]})
    lines = [f"{i}+{7 * i % 10} mod 100\n", f"{i} mod 100\n", f"{9 - i} mod 100\n"]
    return {"input": "".join(lines[: stage + 1]), "label": label, "datasource": f"stage_{stage}"}


def problem_ids(directory: Path, samples: int = SAMPLES) -> dict[int, list[int]]:
    """Step -> problem ids of its groups in order, from the kept rollouts."""
    found = {}
    for path in sorted((directory / "rollouts").glob("step_*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[int(path.stem.removeprefix("step_"))] = [row["problem_id"] for row in rows[::samples]]
    return found
