"""Why engines for seeded requests take no prompt in chunks on a CPU: vLLM rewinds the generators of cut prompts, and a CPU's has no offset."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from openrlhf_ext.rollout import engines


def test_vllm_still_rewinds_the_generators_of_cut_prompts() -> None:
    # When this fails, prompts may be taken in chunks again: remove the argument and this file.
    spec = importlib.util.find_spec("vllm")
    assert spec and spec.origin
    runner = Path(spec.origin).parent / "v1/worker/gpu_model_runner.py"
    assert "gen.set_offset(gen.get_offset() - 4)" in runner.read_text(encoding="utf-8")
    with pytest.raises(RuntimeError, match="offset"):
        torch.Generator("cpu").get_offset()


@pytest.mark.parametrize("whole", [True, False])
def test_engines_take_whole_prompts_where_they_are_told_to(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
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
        gpus=0,
        seed=1,
        whole_prompts=whole,
    )
    assert made[0]["engine_arguments"].get("enable_chunked_prefill") is (False if whole else None)
