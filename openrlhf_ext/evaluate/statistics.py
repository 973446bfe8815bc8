"""Statistics of an evaluation: how sure a share is, pass@k, and whether two models differ. Pure functions on plain numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist, fmean


def wilson_interval(successes: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of ``successes`` / ``count`` (Wilson 1927), as shares in [0, 1].

    centre = (p + z^2 / 2n) / (1 + z^2 / n), half width = z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n). Unlike p +- z s it
    stays inside [0, 1] and is not empty at 0 or n successes.
    """
    if not 0 <= successes <= count or count < 1:
        raise ValueError(f"{successes} successes of {count}: needs 0 <= successes <= count and at least one trial")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, scale = successes / count, 1 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    half = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / scale
    # At 0 and n successes one end is exactly the share; rounding must not move it.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == count else min(1.0, centre + half)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Chance that at least one of ``k`` samples drawn without replacement from ``samples`` is among the ``correct`` ones.

    1 - C(n - c, k) / C(n, k): unbiased for pass@k of the sampler when k < n (Chen et al. 2021, arXiv:2107.03374, eq. 1).
    """
    if not 0 <= correct <= samples:
        raise ValueError(f"{correct} of {samples} samples correct: needs 0 <= correct <= samples")
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples per problem, there are {samples}")
    return 1 - comb(samples - correct, k) / comb(samples, k)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value that two models are right equally often, from the problems that only one of them solved.

    The exact form of McNemar's test (a sign test on the discordant pairs): under the null each such problem falls to either model with
    chance 1/2. No discordant pair says nothing: p = 1.
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"counts must not be negative: {only_first}, {only_second}")
    count = only_first + only_second
    tail = sum(comb(count, i) for i in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**count)


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``values`` (one per problem); the same values give the same interval."""
    if not values:
        raise ValueError("no values to resample")
    generator = random.Random(seed)
    means = sorted(fmean(generator.choices(values, k=len(values))) for _ in range(resamples))
    cut = int(resamples * (1 - confidence) / 2)
    return means[cut], means[resamples - 1 - cut]


@dataclass(frozen=True)
class Comparison:
    """Two models on the same problems; ``difference`` = share solved by the second minus share solved by the first."""

    count: int
    only_first: int
    only_second: int
    difference: float
    low: float
    high: float
    p_value: float


def compare(first: Sequence[bool], second: Sequence[bool], confidence: float = 0.95) -> Comparison:
    """Paired comparison, problem by problem: bootstrap interval of the difference and McNemar's exact p-value."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} answers cannot be paired: both models need the same problems")
    differences = [float(b) - float(a) for a, b in zip(first, second, strict=True)]
    low, high = bootstrap_interval(differences, confidence)
    only_first, only_second = differences.count(-1.0), differences.count(1.0)
    return Comparison(
        count=len(differences),
        only_first=only_first,
        only_second=only_second,
        difference=fmean(differences),
        low=low,
        high=high,
        p_value=mcnemar(only_first, only_second),
    )
