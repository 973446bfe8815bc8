"""Requests to check: the smallest valid one of each method, with changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from openrlhf_ext.config.load import Resolved, load

SMALL_GRPO = {
    "task.name": "game24",
    "actor.model_name_or_path": "a-model",
    "data.prompt_dataset": "rows.jsonl",
    "rollout.batch_size": "8",
    "rollout.n_samples_per_prompt": "4",
    "rollout.micro_batch_size": "8",
    "rollout.max_new_tokens": "100",
    "train.batch_size": "32",
    "train.micro_batch_size": "8",
    "ckpt.save_steps": "10",
    "run.dir": "runs/test",
}
SMALL_REVERSE_CURRICULUM = {
    "task.name": "chain",
    "actor.model_name_or_path": "a-model",
    "data.prompt_dataset": "rows.jsonl",
    "rollout.batch_size": "32",
    "rollout.micro_batch_size": "8",
    "rollout.max_new_tokens": "100",
    "train.batch_size": "32",
    "train.micro_batch_size": "8",
    "ckpt.save_steps": "10",
    "run.dir": "runs/test",
}
SMALL_SFT = {
    "model.model_name_or_path": "a-model",
    "data.dataset": "rows.jsonl",
    "ckpt.save_steps": "10",
    "run.dir": "runs/test",
}


@pytest.fixture
def grpo() -> Callable[..., Resolved]:
    """``grpo({"key": "text"}, device="cuda")``: a valid small GRPO request with changes."""

    def make(changes: dict[str, str] | None = None, device: str = "cpu") -> Resolved:
        return load("grpo", None, list((SMALL_GRPO | (changes or {})).items()), local_device=device)

    return make


@pytest.fixture
def reverse() -> Callable[..., Resolved]:
    """The same for the reverse curriculum."""

    def make(changes: dict[str, str] | None = None, device: str = "cpu", path: str | None = None) -> Resolved:
        settings = SMALL_REVERSE_CURRICULUM | (changes or {})
        return load("reverse-curriculum", path, list(settings.items()), local_device=device)

    return make


@pytest.fixture
def sft() -> Callable[..., Resolved]:
    """The same for SFT."""

    def make(changes: dict[str, str] | None = None, device: str = "cpu") -> Resolved:
        return load("sft", None, list((SMALL_SFT | (changes or {})).items()), local_device=device)

    return make
