"""The model folder before a run: complete, of a shape the engine can serve, and long enough."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from openrlhf_ext.config.load import Resolved
from openrlhf_ext.config.problem import Problem
from openrlhf_ext.memory import ModelShape, read_shape

CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Head sizes of vLLM 0.29.0's CPU attention (vllm/v1/attention/backends/cpu_attn.py); others fail at the first generation."""

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def model_key(resolved: Resolved) -> str:
    """The key that names the policy (or the model of a program)."""
    return "actor.model_name_or_path" if resolved.program == "ppo" else "model.model_name_or_path"


def model_folder(resolved: Resolved) -> Path | None:
    """The model's folder, if it is one on this machine."""
    path = Path(resolved.text(model_key(resolved)))
    return path if path.is_dir() and path != Path() else None


def read_model(resolved: Resolved, *, elsewhere: bool = False) -> tuple[ModelShape | None, list[Problem]]:
    """The shape of the model and what is missing in its folder (``elsewhere``: that it is not here is only remarked on)."""
    return _read(resolved, model_key(resolved), elsewhere=elsewhere)


def critic_problems(resolved: Resolved, policy: ModelShape | None, *, elsewhere: bool = False) -> list[Problem]:
    """What is wrong with a critic that starts from a model of its own: its folder, or a vocabulary that is not the policy's."""
    if not resolved.has_critic:
        return []
    if resolved.method == "rllr" and not resolved.explicit(
        "critic.model_name_or_path"
    ):  # preflight_rewards looks at it
        return []
    return companion_problems(resolved, "critic.model_name_or_path", "critic", policy, elsewhere=elsewhere)


def reference_problems(resolved: Resolved, policy: ModelShape | None, *, elsewhere: bool = False) -> list[Problem]:
    """The same of a reference that is not the policy's start model."""
    key = "ref.model_name_or_path" if resolved.preferences else "oreo.reference_model"
    return companion_problems(resolved, key, "reference", policy, elsewhere=elsewhere)


def companion_problems(
    resolved: Resolved, key: str, role: str, policy: ModelShape | None, *, elsewhere: bool
) -> list[Problem]:
    """What is wrong with a model beside the policy, or with its vocabulary; nothing where ``key`` names the policy's own start model."""
    name = resolved.text(key)
    if not name or name == resolved.text(model_key(resolved)):
        return []
    shape, problems = _read(resolved, key, elsewhere=elsewhere, tokenizer=False)
    if shape and policy and shape.vocabulary != policy.vocabulary:
        what = (
            f"{shape.vocabulary} tokens, but the policy has {policy.vocabulary}: the {role} reads the policy's tokens"
        )
        problems.append(Problem(resolved.where(key), what, f"a {role} of the policy's vocabulary, or leave it out"))
    return problems


def _read(
    resolved: Resolved, key: str, *, elsewhere: bool, tokenizer: bool = True
) -> tuple[ModelShape | None, list[Problem]]:
    name, where = resolved.text(key), resolved.where(key)
    if not name:
        return None, []
    folder = Path(name)
    if not folder.is_dir():
        problem = _not_here(where, name)
        return None, [replace(problem, note=True) if elsewhere else problem]
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        what = f"{folder} holds a LoRA adapter, not a model"
        return None, [Problem(where, what, "openrlhf-ext merge --base M --adapter A --out DIR")]
    problems = []
    if tokenizer and not any((folder / file).exists() for file in _TOKENIZER_FILES):
        problems.append(Problem(where, f"{folder} has no tokenizer", "save the tokenizer beside the model"))
    if not [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]:
        problems.append(Problem(where, f"{folder} has no weights (*.safetensors)", "give the folder of a saved model"))
    if not (folder / "config.json").exists():
        return None, [*problems, Problem(where, f"{folder} has no config.json", "give the folder of a saved model")]
    try:
        return read_shape(folder), problems
    except (ValueError, OSError, TypeError) as error:
        return None, [*problems, Problem(where, f"{folder} cannot be read: {error}", "save the model again")]


def model_problems(resolved: Resolved, model: ModelShape | None) -> Iterator[Problem]:
    """Can the engine serve this shape, at the length asked for?"""
    if model is None:
        return
    where, engines = resolved.where(model_key(resolved)), resolved.program == "ppo" and not resolved.offline
    if engines and resolved.device == "cpu" and model.head_size not in CPU_HEAD_SIZES:
        what = f"attention heads of size {model.head_size}: vLLM on CPU serves {', '.join(map(str, CPU_HEAD_SIZES))}"
        yield Problem(where, what, "a model with hidden size / heads among these")
    length = resolved.whole("data.max_len")
    if model.positions and length > model.positions:
        what = f"{length} tokens, but the model has {model.positions} positions (max_position_embeddings)"
        yield Problem(resolved.where("data.max_len"), what, f"--data.max_len {model.positions} or less")
    width = resolved.whole("vllm.tensor_parallel_size") if engines else 1
    if width > 1 and model.heads % width:
        what = f"{model.heads} attention heads do not divide over {width} GPUs"
        yield Problem(resolved.where("vllm.tensor_parallel_size"), what, f"a divisor of {model.heads}")


def _not_here(where: str, name: str) -> Problem:
    path = Path(name)
    looks_local = name.startswith((".", "/", "~")) or name.count("/") != 1 or path.parent.is_dir()
    if looks_local:
        return Problem(where, f"no such folder: {name}", "correct the path, or make the model first")
    cached = hub_cache() / f"models--{name.replace('/', '--')}"
    if cached.is_dir():
        return Problem(where, f"{name} comes from the Hugging Face cache: its shape is not checked here", "", note=True)
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", ""):
        what = f"no such folder: {name}, and HF_HUB_OFFLINE forbids to download it"
        return Problem(where, what, "correct the path, or unset HF_HUB_OFFLINE")
    what = f"{name} is no folder here: taken for a model on the Hugging Face hub, not checked"
    return Problem(where, what, "", note=True)


def hub_cache() -> Path:
    """Where huggingface_hub keeps downloads."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
