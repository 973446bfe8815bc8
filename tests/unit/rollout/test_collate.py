"""Offline batches: which column belongs to which token, on either side of the padding."""

import pytest
import torch

from openrlhf_ext.data.trajectory import Trajectory
from openrlhf_ext.losses.soft_bellman import states_of
from openrlhf_ext.rollout.collate import collate


def trajectory(tokens: list[int], *ranges: tuple[int, int], reward: float = 1.0, starts: list[int] | None = None):
    row: Trajectory = {
        "prompt": "p",
        "label": "{}",
        "observation_tokens": tokens,
        "action_ranges": list(ranges),
        "rollout_log_probs": None,
        "reward": reward,
        "scores": None,
        "truncated": False,
        "extra_logs": {},
    }
    if starts is not None:
        row["step_starts"] = starts
    return row


TWO = trajectory([10, 11, 12, 13, 14, 15, 16, 17], (2, 4), (5, 7), reward=0.0, starts=[2, 5, 6])
"""Two turns, tokens 12 13 and 15 16; token 17 is an observation after the last action."""
ONE = trajectory([20, 21, 22], (1, 3), starts=[1])


def test_columns_decide_the_next_token() -> None:
    batch = collate([TWO, ONE], pad_id=0)
    assert batch.tokens.tolist() == [[10, 11, 12, 13, 14, 15, 16], [20, 21, 22, 0, 0, 0, 0]]
    assert batch.attention_mask.tolist() == [[1] * 7, [1, 1, 1, 0, 0, 0, 0]]
    assert batch.is_action.long().tolist() == [[0, 1, 1, 0, 1, 1], [1, 1, 0, 0, 0, 0]]
    assert batch.starts_step.long().tolist() == [[0, 1, 0, 0, 1, 1], [1, 0, 0, 0, 0, 0]]
    assert batch.actions[batch.is_action].tolist() == [12, 13, 15, 16, 21, 22]
    # states: the columns of the tokens before the actions
    assert batch.tokens[:, :-1][batch.is_action].tolist() == [11, 12, 14, 15, 20, 21]
    assert batch.rewards.tolist() == [0.0, 1.0]


def test_the_sides_of_padding_hold_the_same_columns() -> None:
    right, left = (collate([TWO, ONE], pad_id=0, padding=side) for side in ("right", "left"))
    assert left.tokens[1].tolist() == [0, 0, 0, 0, 20, 21, 22]
    assert left.is_action[1].long().tolist() == [0, 0, 0, 0, 1, 1]
    for level in ("token", "step", "response"):
        for one, other in zip(
            states_of(level, right.is_action, right.starts_step),
            states_of(level, left.is_action, left.starts_step),
            strict=True,
        ):
            assert right.actions[one].tolist() == left.actions[other].tolist()


def test_a_pad_id_inside_the_text_stays_visible() -> None:
    batch = collate([trajectory([0, 5, 0], (1, 3))], pad_id=0)
    assert batch.attention_mask.tolist() == [[1, 1, 1]] and batch.is_action.tolist() == [[True, True]]


def test_missing_steps_are_refused_only_where_needed() -> None:
    plain = trajectory([1, 2, 3], (1, 3))
    assert not collate([plain], pad_id=0).starts_step.any()
    with pytest.raises(ValueError, match="trajectory 1 of the batch has no step_starts"):
        collate([ONE, plain], pad_id=0, need_steps=True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (trajectory([1, 2]), "has no action"),
        (trajectory([1, 2], (1, 1)), "has no action"),
        (trajectory([1, 2], (0, 2)), "begins with an action"),
        (trajectory([1, 2], (1, 2)) | {"reward": None}, "has no reward"),
    ],
)
def test_rows_that_would_poison_the_mean_are_refused(row, message: str) -> None:
    with pytest.raises(ValueError, match=f"trajectory 0 of the batch {message}"):
        collate([row], pad_id=0)
    with pytest.raises(ValueError, match="at least one"):
        collate([], pad_id=0)


def test_dtypes() -> None:
    batch = collate([ONE], pad_id=0)
    assert (batch.tokens.dtype, batch.is_action.dtype, batch.rewards.dtype) == (torch.int64, torch.bool, torch.float32)
