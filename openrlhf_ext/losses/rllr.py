"""The reward of RLLR (arXiv:2405.19763): a capped label score plus a weighted rationale score, then running normalisation of the sum.

Shapes: scores [N], one number per answer, raw as the reward models give them. Nothing here has a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a reward model's scores on held-out pairs; 0 and 1 leave a score as it is."""

    mean: float = 0.0
    std: float = 1.0

    def standardised(self, scores: torch.Tensor) -> torch.Tensor:
        """(s - mean) / std. Raises ValueError where std is not positive."""
        if not self.std > 0:
            raise ValueError(f"a standard deviation of {self.std:g}: the model gives every answer the same score")
        return (scores - self.mean) / self.std


@dataclass(frozen=True)
class Combination:
    """r = min(s_label, tau) + weight * s_rationale (section 3 of the paper); with one model alone its score is the reward, uncapped.

    ``tau`` is on the raw scale of the label model. With scales, the capped label score and the rationale score are standardised first,
    so that neither decides by its spread alone; the order of answers by label score is the same either way.
    """

    tau: float | None = None
    weight: float = 1.0
    label_scale: Scale = Scale()
    rationale_scale: Scale = Scale()

    def __call__(self, label: torch.Tensor | None, rationale: torch.Tensor | None) -> torch.Tensor:
        """Rewards [N] of scores [N]."""
        if label is None and rationale is None:
            raise ValueError("no score to make a reward of: a label score, a rationale score or both are needed")
        if label is None:
            assert rationale is not None
            return self.rationale_scale.standardised(rationale)
        if rationale is None:
            return self.label_scale.standardised(label)
        if label.shape != rationale.shape:
            raise ValueError(f"label scores {tuple(label.shape)} and rationale scores {tuple(rationale.shape)} differ")
        capped = label if self.tau is None else label.clamp(max=self.tau)
        return self.label_scale.standardised(capped) + self.weight * self.rationale_scale.standardised(rationale)


@dataclass
class RunningMoments:
    """Mean and spread of all rewards so far; a batch is counted first and then normalised by them, as in TRL.

    ``normalise`` = (r - mean) / (std + eps), std unbiased, not clipped. Exact in any cut into batches up to float64 rounding
    (Chan et al. 1983). The state belongs in the checkpoint.
    """

    eps: float = 1e-8
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""

    @property
    def std(self) -> float:
        return (self.squares / (self.count - 1)) ** 0.5 if self.count > 1 else 0.0

    def update(self, rewards: torch.Tensor) -> None:
        """Count ``rewards`` [N]."""
        exact = rewards.double()
        new, mean = len(exact), exact.mean().item()
        distance, total = mean - self.mean, self.count + new
        self.squares += ((exact - mean) ** 2).sum().item() + distance**2 * self.count * new / total
        self.mean += distance * new / total
        self.count = total

    def normalise(self, rewards: torch.Tensor) -> torch.Tensor:
        """[N], by what has been counted so far; equal rewards give exactly 0."""
        return ((rewards.double() - self.mean) / (self.std + self.eps)).to(rewards.dtype)

    def state_dict(self) -> dict[str, float]:
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.count, self.mean, self.squares = int(state["count"]), state["mean"], state["squares"]


def next_kl_coefficient(beta: float, kl: float, *, target: float, horizon: float, samples: int) -> float:
    """beta * (1 + clip(KL / target - 1, -0.2, 0.2) * n / horizon); KL in nats per answer, n answers (Ziegler et al. 2019, arXiv:1909.08593)."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + error * samples / horizon)


def require_finite(scores: torch.Tensor, model: str) -> None:
    """Raises ValueError naming the model where a score is not a finite number."""
    broken = int((~torch.isfinite(scores)).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(scores)} scores of the {model} are not finite: its weights or its number format are broken; "
            "score held-out pairs with it (openrlhf-ext score), or train it again"
        )
