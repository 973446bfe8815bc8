"""How a group's rewards become advantages: per group (GRPO) or against running statistics (24-point report).

Shapes: ``rewards`` [G, N], N samples of each of G prompts. An advantage is one number per sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


def group_advantages(rewards: torch.Tensor, eps: float = 1e-4) -> torch.Tensor:
    """A = (r - mean) / (std + eps) within each group, std unbiased; [G, N].

    DeepSeekMath (Shao et al. 2024, arXiv:2402.03300), section 4.1.2, outcome supervision. A group of equal rewards gives exactly 0.
    """
    _require_groups(rewards)
    # In float64 the mean of equal float32 rewards is exact; in float32 its rounding error over eps would be a gradient.
    exact = rewards.double()
    centred = exact - exact.mean(dim=-1, keepdim=True)
    return (centred / (exact.std(dim=-1, keepdim=True) + eps)).to(rewards.dtype)


@dataclass
class RunningNormaliser:
    """Advantages against one running mean and standard deviation that all prompts share.

    24-point report, equations (5)-(6): per group, in order, ``mu <- m * mu + (1 - m) * mean(r)`` and the same for sigma; the
    advantage uses the updated values, ``A = (r - mu) / (sigma + eps)``; afterwards ``m <- min(max_momentum, m + step)``.
    The first group initialises both. With ``max_momentum = 0`` the result equals :func:`group_advantages`.

    The statistics are shared, so a group whose rewards are all equal can still get non-zero advantages of one sign.
    ``update`` must see each group once; the state belongs in the checkpoint.
    """

    max_momentum: float
    eps: float = 1e-4
    step: float = 0.1
    mean: float | None = None
    std: float | None = None
    momentum: float = 0.0

    def update(self, rewards: torch.Tensor) -> torch.Tensor:
        """Advantages [G, N] of ``rewards`` [G, N]; moves the running statistics once per group."""
        _require_groups(rewards)
        return torch.stack([self._update_group(group) for group in rewards])

    def _update_group(self, rewards: torch.Tensor) -> torch.Tensor:
        exact = rewards.double()
        mean, std = exact.mean().item(), exact.std().item()
        if self.mean is None or self.std is None:
            self.mean, self.std = mean, std
        else:
            m = self.momentum
            self.mean = m * self.mean + (1 - m) * mean
            self.std = m * self.std + (1 - m) * std
        advantages = ((exact - self.mean) / (self.std + self.eps)).to(rewards.dtype)
        self.momentum = min(self.max_momentum, self.momentum + self.step)
        return advantages

    def state_dict(self) -> dict[str, float | None]:
        return {"mean": self.mean, "std": self.std, "momentum": self.momentum}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        self.mean, self.std = state["mean"], state["std"]
        self.momentum = state["momentum"] or 0.0


def temperature_at(step: int, max_steps: int, start: float, final: float | None) -> float:
    """Sampling temperature of 0-based ``step``: exponential interpolation from ``start`` to ``final`` over ``max_steps``."""
    if final is None or max_steps <= 1:
        return start
    share = min(step, max_steps - 1) / (max_steps - 1)
    return start * (final / start) ** share


def _require_groups(rewards: torch.Tensor) -> None:
    if rewards.dim() != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"rewards must be [groups, samples >= 2], got {tuple(rewards.shape)}: a group of one has no spread"
        )
