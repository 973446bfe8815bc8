"""What engines are told on a CPU because of how vLLM's CPU build works, and that it still works so."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from openrlhf_ext.rollout import engines


def source_of_vllm(name: str) -> str:
    spec = importlib.util.find_spec("vllm")
    assert spec and spec.origin
    return (Path(spec.origin).parent / name).read_text(encoding="utf-8")


def arguments_of(monkeypatch: pytest.MonkeyPatch, gpus: float = 0, **settings: bool) -> dict:
    """The engine arguments that engines with these settings are made with."""
    made: list[dict] = []
    monkeypatch.setattr(engines, "create_engines", lambda *_, **arguments: made.append(arguments) or [])
    engines.start_engines(
        1,
        "model",
        {"name": "chain"},
        precision="float32",
        max_model_len=64,
        placement_group=None,
        cpus=1,
        gpus=gpus,
        seed=1,
        **settings,
    )
    return made[0]["engine_arguments"]


def test_vllm_still_rewinds_the_generators_of_cut_prompts() -> None:
    # vLLM rewinds the generators of prompts that it cuts, and a CPU's has no offset: seeded requests take whole prompts.
    # When this fails, prompts may be taken in chunks again: remove the argument and its tests.
    assert "gen.set_offset(gen.get_offset() - 4)" in source_of_vllm("v1/worker/gpu_model_runner.py")
    with pytest.raises(RuntimeError, match="offset"):
        torch.Generator("cpu").get_offset()


@pytest.mark.parametrize("whole", [True, False])
def test_engines_take_whole_prompts_where_they_are_told_to(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = arguments_of(monkeypatch, whole_prompts=whole)
    assert arguments.get("enable_chunked_prefill") is (False if whole else None)


def test_vllm_still_takes_blocks_of_128_and_multiples_of_32() -> None:
    # Only whole blocks are shared between requests, and most prompts here are shorter than 128 tokens.
    # When this fails, see whether vLLM's own size shares short prompts by now.
    text = source_of_vllm("platforms/cpu.py")
    assert "cache_config.block_size = 128" in text and "cache_config.block_size % 32 != 0" in text
    assert engines.CPU_BLOCK % 32 == 0


@pytest.mark.parametrize(("caching", "gpus", "size"), [(True, 0, 32), (False, 0, None), (True, 1, None)])
def test_only_a_prefix_cache_on_a_cpu_has_short_blocks(
    caching: bool, gpus: float, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert arguments_of(monkeypatch, gpus, enable_prefix_caching=caching).get("block_size") == size
