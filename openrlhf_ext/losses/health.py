"""Signs that a soft-Bellman run goes wrong, from one batch of values."""

from __future__ import annotations

from typing import NamedTuple

import torch


class ValueHealth(NamedTuple):
    """Extremes of V at the states, and the share of states outside the allowed range; nan where there are no states."""

    minimum: float
    maximum: float
    outside: float


def value_health(
    values: torch.Tensor, is_state: torch.Tensor, low: float = 0.0, high: float = 1.0, slack: float = 0.1
) -> ValueHealth:
    """V at the states against [low - slack, high + slack]; values and is_state of one shape.

    The optimal value of rewards in [low, high] lies in that range (arXiv:2412.16145: a soft maximum under pi_ref). Leaving it is how a run
    on data that covers few responses shows that it diverges. A value that is not finite counts as outside.
    """
    kept = values.detach().double()[is_state.bool()]
    if kept.numel() == 0:
        return ValueHealth(float("nan"), float("nan"), float("nan"))
    inside = (kept >= low - slack) & (kept <= high + slack)
    return ValueHealth(kept.min().item(), kept.max().item(), (~inside).double().mean().item())
