"""Small statistics for verdicts and curves; plain Python, so that `report` needs no numerical library."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

Z95 = 1.959963984540054


def wilson(successes: float, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): right also for shares near 0 or 1, where the normal one leaves [0, 1]."""
    if count <= 0:
        raise ValueError(f"an interval needs at least one observation, got {count}")
    share, square = successes / count, Z95 * Z95
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = Z95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def difference_interval(before: float, after: float, count_before: int, count_after: int) -> tuple[float, float]:
    """95 % interval of `after - before` for two shares of independent counts (Newcombe 1998, method 10: from the two Wilson intervals)."""
    low_b, high_b = wilson(before * count_before, count_before)
    low_a, high_a = wilson(after * count_after, count_after)
    difference = after - before
    low = difference - math.hypot(after - low_a, high_b - before)
    high = difference + math.hypot(high_a - after, before - low_b)
    return low, high


def paired_interval(gained: int, lost: int, count: int) -> tuple[float, float]:
    """95 % interval of the change of a share over the same `count` problems (Agresti and Min 2005: the matched-pairs Wald interval
    after adding half a problem to each of the four outcomes)."""
    size, won, missed = count + 2, gained + 0.5, lost + 0.5
    difference = (won - missed) / size
    half = Z95 * math.sqrt(won + missed - (won - missed) ** 2 / size) / size
    return max(-1.0, difference - half), min(1.0, difference + half)


def sign_test(gained: int, lost: int) -> float:
    """Two-sided exact probability of a split at least this uneven if gains and losses were equally likely (exact McNemar test)."""
    count = gained + lost
    if count == 0:
        return 1.0
    tail = sum(math.comb(count, k) for k in range(min(gained, lost) + 1)) / 2**count
    return min(1.0, 2 * tail)


def smooth(values: Sequence[float | None], window: int) -> list[float | None]:
    """Centred moving mean over `window` values (odd), shorter at the ends, so that it never lags; gaps stay gaps."""
    half = window // 2
    result: list[float | None] = []
    for index, value in enumerate(values):
        reach = min(half, index, len(values) - 1 - index)
        near = [item for item in values[index - reach : index + reach + 1] if item is not None]
        result.append(statistics.fmean(near) if value is not None and near else None)
    return result


def smoothing_window(count: int) -> int:
    """An odd window of about a twelfth of the curve; 1 (no smoothing) for short curves."""
    return 1 if count < 12 else 2 * max(1, round(count / 24)) + 1


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the sorted values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t for 1 to 9 degrees of freedom."""


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of a few values, such as one per seed (Student's t); None for a single one, which tells no spread."""
    if len(values) < 2:
        return None
    freedom = len(values) - 1
    # Above the table: Fisher and Cornish's expansion of the quantile, right to 0.003 there.
    t = T95[freedom - 1] if freedom <= len(T95) else Z95 + 2.372 / freedom + 2.823 / freedom**2
    mean, half = statistics.fmean(values), t * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (None for a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
