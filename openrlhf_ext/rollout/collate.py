"""Offline trajectories as padded tensors: the columns and masks that losses/soft_bellman.py works on (its `states_of` chooses the level)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from openrlhf_ext.data.trajectory import Trajectory


@dataclass(frozen=True)
class OfflineBatch:
    """B trajectories of at most L tokens; A = L - 1 columns, column t deciding token t + 1.

    `tokens`, `attention_mask`: [B, L] int64; `actions`: [B, A], the tokens decided; `is_action`, `starts_step` (the
    action begins a reasoning step): [B, A] bool, false on padding; `rewards`: [B] float32.
    """

    tokens: torch.Tensor
    attention_mask: torch.Tensor
    is_action: torch.Tensor
    starts_step: torch.Tensor
    rewards: torch.Tensor

    @property
    def actions(self) -> torch.Tensor:
        return self.tokens[:, 1:]


def collate(
    trajectories: Sequence[Trajectory],
    *,
    pad_id: int,
    padding: Literal["left", "right"] = "right",
    need_steps: bool = False,
) -> OfflineBatch:
    """One batch. Tokens after the last action are left out: nothing is decided there.

    `need_steps`: refuse trajectories without `step_starts` (step level). Raises ValueError for one without actions or reward.
    """
    if not trajectories:
        raise ValueError("a batch needs at least one trajectory")
    ends = [_last_action(row, number) for number, row in enumerate(trajectories)]
    width = max(ends)
    shape = (len(trajectories), width)
    tokens = torch.full(shape, pad_id, dtype=torch.long)
    attention = torch.zeros(shape, dtype=torch.long)
    is_action, starts = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    for b, (row, end) in enumerate(zip(trajectories, ends, strict=True)):
        begin = width - end if padding == "left" else 0
        tokens[b, begin : begin + end] = torch.tensor(row["observation_tokens"][:end])
        attention[b, begin : begin + end] = 1
        for first, last in row["action_ranges"]:
            is_action[b, begin + first : begin + last] = True
        starts[b, [begin + start for start in _starts(row, b, need_steps) if start < end]] = True
    rewards = torch.tensor([float(_reward(row, b)) for b, row in enumerate(trajectories)])
    # A token's column is the one before it: masks made at the tokens lose their first place.
    return OfflineBatch(tokens, attention, is_action[:, 1:], starts[:, 1:], rewards)


def _last_action(row: Trajectory, number: int) -> int:
    ranges = [(start, end) for start, end in row["action_ranges"] if end > start]
    if not ranges:
        raise ValueError(
            f"trajectory {number} of the batch has no action: read files with read_offline, which leaves those out"
        )
    if ranges[0][0] == 0:
        raise ValueError(
            f"trajectory {number} of the batch begins with an action: there is no state before its first token"
        )
    return ranges[-1][1]


def _reward(row: Trajectory, number: int) -> float:
    if row["reward"] is None:
        raise ValueError(f"trajectory {number} of the batch has no reward: grade the responses first")
    return row["reward"]


def _starts(row: Trajectory, number: int, needed: bool) -> list[int]:
    if needed and "step_starts" not in row:
        raise ValueError(f"trajectory {number} of the batch has no step_starts: the step level needs them")
    return row.get("step_starts", [])
