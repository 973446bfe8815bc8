"""KTO by hand, against a loop, and in the direction it must push."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.losses.kto import class_weights, kto_losses, reference_point


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_losses_by_hand() -> None:
    # beta 1, z log 2: a good response at l = z costs 1/2; one log 3 above it costs 1 - 3/4; a bad one there costs 3/4.
    z = math.log(2)
    ratios = torch.tensor([z, z + math.log(3), z + math.log(3)])
    got = kto_losses(ratios, torch.tensor([1, 1, 0]), z, beta=1.0)
    assert got.tolist() == pytest.approx([0.5, 0.25, 0.75], abs=1e-6)


@given(st.lists(st.tuples(st.floats(-20, 20), st.booleans()), min_size=1, max_size=8), st.floats(0, 3))
def test_losses_equal_a_loop(rows: list[tuple[float, bool]], z: float) -> None:
    got = kto_losses(torch.tensor([r for r, _ in rows]), torch.tensor([g for _, g in rows]), z, 0.2, 1.5, 0.5)
    want = [1.5 * (1 - sigmoid(0.2 * (r - z))) if g else 0.5 * (1 - sigmoid(0.2 * (z - r))) for r, g in rows]
    assert got.tolist() == pytest.approx(want, abs=1e-5)


def test_good_responses_are_pulled_up_and_bad_ones_down() -> None:
    ratios = torch.tensor([0.3, 0.3], requires_grad=True)
    kto_losses(ratios, torch.tensor([True, False]), 0.1).sum().backward()
    assert ratios.grad[0] < 0 < ratios.grad[1]


def test_reference_point_is_a_constant_and_never_negative() -> None:
    ratios = torch.tensor([1.0, 2.0, -1.5], requires_grad=True)
    assert reference_point(ratios).item() == 0.5
    assert not reference_point(ratios).requires_grad
    assert reference_point(torch.tensor([-4.0, 1.0])).item() == 0.0
    with pytest.raises(ValueError, match="at least one mismatched pair"):
        reference_point(torch.tensor([]))


def test_class_weights_balance_and_never_shrink() -> None:
    assert class_weights(10, 40) == (4.0, 1.0)
    assert class_weights(30, 10) == (1.0, 3.0)
    with pytest.raises(ValueError, match="0 bad"):
        class_weights(3, 0)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"must be \[B\]"):
        kto_losses(torch.zeros(2, 3), torch.zeros(2, 3), 0.0)
