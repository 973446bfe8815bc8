"""Numeric precision of trainer and engine: OpenRLHF 0.11.2 knows bf16 and fp16, we add float32.

DeepSpeed trains in float32 when its config enables neither bf16 nor fp16, which is what upstream's config functions
write for any other name. Only the name -> dtype function (``openrlhf/utils/utils.py``) has to learn the new name;
the engine's dtype is set in ``engine.py``. Works with and without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from openrlhf_ext.upstream import hooks

if TYPE_CHECKING:
    import torch

ENGINE_DTYPE = {"float32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Value of ``ds.param_dtype`` -> name of the same dtype in vLLM (and in torch)."""


def engine_dtype(param_dtype: str) -> str:
    """vLLM's name of ``ds.param_dtype``; ValueError for an unknown one."""
    if param_dtype not in ENGINE_DTYPE:
        raise ValueError(f"ds.param_dtype is {param_dtype!r}: use one of {', '.join(ENGINE_DTYPE)}")
    return ENGINE_DTYPE[param_dtype]


def _open_float32(module: ModuleType) -> Iterator[None]:
    yield

    def convert_to_torch_dtype(param_dtype: str) -> torch.dtype:
        """torch's dtype for ``ds.param_dtype``: float32, bf16 or fp16."""
        import torch

        return getattr(torch, engine_dtype(param_dtype))

    hooks.stand_in(convert_to_torch_dtype, module, "convert_to_torch_dtype")


def install() -> None:
    """Let ``ds.param_dtype=float32`` mean float32 in every model OpenRLHF builds."""
    hooks.require_tested_version()
    hooks.register({"openrlhf.utils.utils": _open_float32})
