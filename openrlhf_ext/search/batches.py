"""Micro-batches of sequences: similar lengths together, a bound on the padded size."""

from __future__ import annotations

from collections.abc import Sequence


def micro_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Numbers of the sequences, cut into batches whose rows times longest length is at most `tokens` (a longer one goes alone)."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    for i in order:
        # The first of a batch is its longest.
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
