"""How the trajectories of a step are cut into micro-batches and dealt to ranks; pure."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from openrlhf_ext.data.trajectory import Trajectory


def cut(chosen: Sequence[int], trajectories: Sequence[Trajectory], micro_batch: int) -> list[list[int]]:
    """Micro-batches of equal size, neighbours in length together: the loss does not depend on the cut, the padding does."""
    by_length = sorted(chosen, key=lambda i: len(trajectories[i]["observation_tokens"]))
    return [by_length[at : at + micro_batch] for at in range(0, len(by_length), micro_batch)]


def deal(work: Sequence, ranks: int) -> list[list]:
    """Rank r gets pieces r, r + ranks, ...: all ranks equally many, of about equal length. ValueError where they do not divide."""
    if len(work) % ranks:
        raise ValueError(f"{len(work)} micro-batches do not divide over {ranks} ranks")
    return [list(work[rank::ranks]) for rank in range(ranks)]


def undeal(results: Sequence[Sequence]) -> list:
    """The inverse of :func:`deal`."""
    return [one for round_ in zip(*results, strict=True) for one in round_]


def pieces_of_rounds(pieces: Sequence[int], ranks: int) -> list[int]:
    """The largest of each round: ranks that work side by side must call a sharded output layer equally often."""
    return [max(pieces[i - i % ranks : i - i % ranks + ranks]) for i in range(len(pieces))]


def padded(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Vectors of columns as one [B, A] tensor, padded on the right with zeros like the tokens."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def columns(trajectory: Trajectory) -> int:
    """Columns up to the last action: tokens after it decide nothing."""
    return max(end for start, end in trajectory["action_ranges"] if end > start) - 1
