"""The helpers of flash-attn that OpenRLHF imports at load time, in plain torch.

``openrlhf/models/ring_attn_utils.py:3-4`` (0.11.2) is the only place in the package that cannot be imported without
flash-attn. The helpers move tokens between the padded layout ``[B, T, ...]`` and the packed one ``[N, ...]``.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def index_first_axis(values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Rows ``indices`` of ``values``: ``[N, ...], [K] -> [K, ...]``."""
    return values[indices]


def unpad_input(
    padded: torch.Tensor, attention_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int, torch.Tensor]:
    """Drop the padding of ``padded [B, T, ...]`` where ``attention_mask [B, T]`` is 0.

    Returns:
        tokens ``[N, ...]``; their flat positions ``[N]``; cumulative lengths ``[B + 1]``, int32; the longest length;
        lengths ``[B]``, int32.
    """
    import torch

    lengths = attention_mask.sum(dim=-1, dtype=torch.int32)
    indices = attention_mask.flatten().nonzero().flatten()
    cumulative = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    return padded.flatten(0, 1)[indices], indices, cumulative, int(lengths.max()), lengths


def pad_input(tokens: torch.Tensor, indices: torch.Tensor, batch: int, length: int) -> torch.Tensor:
    """Inverse of ``unpad_input``: ``[N, ...] -> [batch, length, ...]``, zero where no token belongs."""
    empty = tokens.new_zeros(batch * length, *tokens.shape[1:])
    return empty.index_copy(0, indices, tokens).unflatten(0, (batch, length))


def all_gather(values: torch.Tensor, group: torch.distributed.ProcessGroup) -> torch.Tensor:
    """Every rank's ``values`` in rank order along the first axis; differentiable."""
    import torch
    from torch.distributed.nn.functional import all_gather as gather

    return torch.cat(gather(values, group))


@contextlib.contextmanager
def flash_attn_lent() -> Iterator[None]:
    """``import flash_attn`` finds these helpers inside the block and nothing after it.

    Afterwards it must be absent again: OpenRLHF and transformers probe for the package to choose kernels.
    """
    from einops import rearrange

    modules = {
        name: ModuleType(name)
        for name in ("flash_attn", "flash_attn.bert_padding", "flash_attn.utils", "flash_attn.utils.distributed")
    }
    modules["flash_attn"].__path__ = modules["flash_attn.utils"].__path__ = []
    for helper in (index_first_axis, unpad_input, pad_input):
        setattr(modules["flash_attn.bert_padding"], helper.__name__, helper)
    modules["flash_attn.bert_padding"].rearrange = rearrange  # type: ignore[attr-defined]
    modules["flash_attn.utils.distributed"].all_gather = all_gather  # type: ignore[attr-defined]
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
