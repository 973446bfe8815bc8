"""When the values of a batch are called unhealthy."""

import math

import torch

from openrlhf_ext.losses.health import value_health


def test_share_outside_the_range_by_hand() -> None:
    values = torch.tensor([[0.5, -0.25, 99.0], [1.05, 1.25, -0.05]])
    is_state = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert value_health(values, is_state) == (-0.25, 1.25, 0.4)
    assert value_health(values, is_state, low=-1.0).outside == 0.2


def test_a_value_that_is_not_finite_is_outside() -> None:
    assert value_health(torch.tensor([math.nan, 0.0, math.inf]), torch.ones(3)).outside > 0.6


def test_without_states_there_is_nothing_to_say() -> None:
    assert all(math.isnan(x) for x in value_health(torch.ones(2), torch.zeros(2)))
