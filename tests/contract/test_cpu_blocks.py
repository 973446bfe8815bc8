"""Why engines that keep a prefix cache on a CPU get blocks of their own size: vLLM's are longer than most prompts here, and only whole blocks are shared."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from openrlhf_ext.rollout import engines


def test_vllm_still_takes_128_and_multiples_of_32() -> None:
    # When this fails, see whether its own size shares short prompts by now.
    spec = importlib.util.find_spec("vllm")
    assert spec and spec.origin
    text = (Path(spec.origin).parent / "platforms/cpu.py").read_text(encoding="utf-8")
    assert "cache_config.block_size = 128" in text and "cache_config.block_size % 32 != 0" in text
    assert engines.CPU_BLOCK % 32 == 0


@pytest.mark.parametrize(("caching", "gpus", "size"), [(True, 0, 32), (False, 0, None), (True, 1, None)])
def test_only_a_prefix_cache_on_a_cpu_has_short_blocks(
    caching: bool, gpus: float, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        enable_prefix_caching=caching,
    )
    assert made[0]["engine_arguments"].get("block_size") == size
