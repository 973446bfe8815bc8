"""Whitening over the policy's tokens, worked by hand and against a loop."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.losses.whiten import whiten

ROOT = math.sqrt(3 / 2)  # of 1, 2, 3: mean 2, variance 2/3


def test_tensors_of_different_widths_share_one_mean_and_spread() -> None:
    advantages = [torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[7.0, 3.0], [5.0, 5.0]])]
    is_action = [torch.tensor([[1, 1, 0]]), torch.tensor([[0, 1], [0, 0]])]
    one, two = whiten(advantages, is_action)
    assert one.tolist()[0] == pytest.approx([-ROOT, 0.0, 0.0])
    assert two.tolist()[0] == pytest.approx([0.0, ROOT])
    assert two.tolist()[1] == [0.0, 0.0]


rows = st.lists(st.tuples(st.floats(-100, 100, width=32), st.booleans()), min_size=1, max_size=9)


@given(st.lists(rows, min_size=1, max_size=4))
def test_against_a_loop(batches: list[list[tuple[float, bool]]]) -> None:
    kept = [value for row in batches for value, use in row if use]
    mean = sum(kept) / max(len(kept), 1)
    spread = math.sqrt(max(sum((value - mean) ** 2 for value in kept) / max(len(kept), 1), 1e-8))
    found = whiten(
        [torch.tensor([[value for value, _ in row]], dtype=torch.float64) for row in batches],
        [torch.tensor([[use for _, use in row]]) for row in batches],
    )
    for row, tensor in zip(batches, found, strict=True):
        assert tensor[0].tolist() == pytest.approx([(v - mean) / spread if use else 0.0 for v, use in row], abs=1e-6)


def test_what_is_not_an_action_does_not_matter() -> None:
    mask = torch.tensor([[0, 1, 1, 0]])
    one, other = (whiten([torch.tensor([[x, 1.0, 3.0, y]])], [mask])[0] for x, y in ((0.0, 0.0), (50.0, float("nan"))))
    assert torch.equal(one, other)
    changed = whiten([torch.tensor([[0.0, 1.0, 4.0, 5.0]])], [torch.tensor([[0, 1, 1, 1]])])[0]
    assert not torch.equal(one, changed)  # the control


def test_equal_advantages_are_exactly_zero() -> None:
    assert whiten([torch.full((1, 3), 0.1)], [torch.ones(1, 3)])[0].abs().max() == 0.0


def test_nothing_to_whiten() -> None:
    assert whiten([], []) == []
    assert whiten([torch.ones(1, 2)], [torch.zeros(1, 2)])[0].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("advantages", "is_action"), [([torch.ones(1, 2)], []), ([torch.ones(1, 2)], [torch.ones(1, 3)])]
)
def test_masks_must_fit(advantages: list, is_action: list) -> None:
    with pytest.raises(ValueError, match="mask of its shape"):
        whiten(advantages, is_action)
