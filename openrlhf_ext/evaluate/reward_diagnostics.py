"""What scores of held-out pairs say about a reward model: accuracy, margin, calibration, quantiles, and a suggestion for tau. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from openrlhf_ext.record.reward_scale import RewardScale

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
BINS = 5


@dataclass(frozen=True)
class Bin:
    """Pairs whose preference the model is about equally sure of."""

    count: int
    confidence: float
    """Mean of sigmoid(|chosen - rejected|), at least a half."""
    accuracy: float


@dataclass(frozen=True)
class Diagnosis:
    """One model on the pairs of one file."""

    scale: RewardScale
    error: float
    """Half width of the 95 % interval of the accuracy (normal approximation)."""
    bins: tuple[Bin, ...]
    calibration_error: float
    """Mean distance of confidence and accuracy, weighted by the pairs of a bin."""


def diagnose(chosen: Sequence[float], rejected: Sequence[float], tau_quantile: float = 0.5) -> Diagnosis:
    """From the scores of both sides. Raises ValueError for no pairs, or for a score that is not finite."""
    if not chosen or len(chosen) != len(rejected):
        raise ValueError(f"{len(chosen)} chosen and {len(rejected)} rejected scores: as many of each, at least one")
    if not all(map(math.isfinite, (*chosen, *rejected))):
        raise ValueError("a score is not a finite number: the model's weights or number format are broken")
    every, count = [*chosen, *rejected], len(chosen)
    won = [1.0 if c > r else 0.5 if c == r else 0.0 for c, r in zip(chosen, rejected, strict=True)]
    mean = sum(every) / len(every)
    accuracy = sum(won) / count
    scale = RewardScale(
        mean=mean,
        std=math.sqrt(sum((s - mean) ** 2 for s in every) / max(1, len(every) - 1)),
        tau=quantile(chosen, tau_quantile),
        tau_quantile=tau_quantile,
        highest=max(chosen),
        pairs=count,
        accuracy=accuracy,
        margin=sum(c - r for c, r in zip(chosen, rejected, strict=True)) / count,
        chosen_quantiles={f"{q:g}": quantile(chosen, q) for q in QUANTILES},
        rejected_quantiles={f"{q:g}": quantile(rejected, q) for q in QUANTILES},
    )
    bins = calibration(chosen, rejected)
    error = sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / count
    return Diagnosis(scale, 1.96 * math.sqrt(accuracy * (1 - accuracy) / count), bins, error)


def calibration(chosen: Sequence[float], rejected: Sequence[float], bins: int = BINS) -> tuple[Bin, ...]:
    """Pairs by confidence, from a half to 1 in equal steps; empty ones are left out."""
    found: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for c, r in zip(chosen, rejected, strict=True):
        confidence = 1 / (1 + math.exp(-min(abs(c - r), 700.0)))
        place = min(int((confidence - 0.5) * 2 * bins), bins - 1)
        found[place].append((confidence, 1.0 if c > r else 0.5 if c == r else 0.0))
    return tuple(
        Bin(len(cell), sum(p for p, _ in cell) / len(cell), sum(w for _, w in cell) / len(cell))
        for cell in found
        if cell
    )


def quantile(values: Sequence[float], q: float) -> float:
    """Linear between the ordered values, as numpy's default."""
    ordered = sorted(values)
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])
