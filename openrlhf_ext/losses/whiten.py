"""Advantages of a whole rollout batch brought to mean 0 and spread 1 over the tokens that the policy produced."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def whiten(
    advantages: Sequence[torch.Tensor], is_action: Sequence[torch.Tensor], eps: float = 1e-8
) -> list[torch.Tensor]:
    """(A - mean) / sqrt(max(var, eps)) over all action tokens of all tensors; 0 elsewhere. Pairs of [B, A], widths may differ.

    The mathematics half of the reverse-curriculum paper (arXiv:2402.05808) does this, its other half does not. The variance is that of
    the tokens at hand (divided by their number). Without any action token everything is 0.
    """
    if len(advantages) != len(is_action) or any(
        a.shape != m.shape for a, m in zip(advantages, is_action, strict=False)
    ):
        shapes = [tuple(tensor.shape) for tensor in (*advantages, *is_action)]
        raise ValueError(f"every tensor of advantages needs a mask of its shape, got {shapes}")
    if not advantages:
        return []
    # In float64: equal float32 advantages would keep a rounding error over sqrt(eps), which would be a gradient.
    kept = torch.cat([a.double()[m.bool()] for a, m in zip(advantages, is_action, strict=True)])
    if kept.numel() == 0:
        return [torch.zeros_like(a) for a in advantages]
    mean, spread = kept.mean(), kept.var(correction=0).clamp(min=eps).sqrt()
    return [
        torch.where(m.bool(), (a.double() - mean) / spread, 0.0).to(a.dtype)
        for a, m in zip(advantages, is_action, strict=True)
    ]
