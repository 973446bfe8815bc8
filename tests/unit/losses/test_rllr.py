"""The reward of RLLR by hand: the cap, the sum, standardising first, and the running moments against a loop."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.losses.rllr import Combination, RunningMoments, Scale, next_kl_coefficient, require_finite

TAU = 4.0
TABLE = [
    # label score, rationale score, reward = min(label, 4) + rationale
    (3.0, 1.0, 4.0),  # below the cap
    (4.0, 1.0, 5.0),  # at the cap
    (9.0, 1.0, 5.0),  # above: no more for the label
    (9.0, -2.0, 2.0),  # above: the rationale still counts
    (-7.0, 1.0, -6.0),  # a negative score passes through
    (0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("label", "rationale", "reward"), TABLE)
def test_the_mixed_reward_by_hand(label: float, rationale: float, reward: float) -> None:
    found = Combination(tau=TAU)(torch.tensor([label]), torch.tensor([rationale]))
    assert found.tolist() == [reward]


def test_weight_and_scales_by_hand() -> None:
    label, rationale = torch.tensor([6.0, 2.0]), torch.tensor([3.0, 1.0])
    assert Combination(tau=TAU, weight=0.5)(label, rationale).tolist() == [5.5, 2.5]
    scaled = Combination(tau=TAU, weight=0.5, label_scale=Scale(2.0, 4.0), rationale_scale=Scale(1.0, 2.0))
    assert scaled(label, rationale).tolist() == [1.0, 0.0]  # (4-2)/4 + .5 (3-1)/2; (2-2)/4 + .5 (1-1)/2


def test_one_model_alone_is_not_capped() -> None:
    scores = torch.tensor([9.0, -1.0])
    assert Combination(tau=TAU)(scores, None).tolist() == [9.0, -1.0]
    assert Combination(tau=TAU)(None, scores).tolist() == [9.0, -1.0]
    with pytest.raises(ValueError, match="no score"):
        Combination()(None, None)
    with pytest.raises(ValueError, match="differ"):
        Combination()(scores, scores[:1])


numbers = st.floats(-20, 20, allow_nan=False)


@given(numbers, numbers, numbers, st.floats(0.01, 5))
def test_more_rationale_always_pays_and_more_label_only_below_the_cap(
    label: float, rationale: float, more: float, weight: float
) -> None:
    made = Combination(tau=TAU, weight=weight)
    low, high = sorted((rationale, more))
    one = made(torch.tensor([label, label]).double(), torch.tensor([low, high]).double()).tolist()
    assert one[0] <= one[1]
    above = made(torch.tensor([TAU, TAU + abs(more)]).double(), torch.tensor([rationale, rationale]).double()).tolist()
    assert above[0] == above[1]
    below = made(torch.tensor([TAU - 1, TAU - 2]).double(), torch.tensor([rationale, rationale]).double()).tolist()
    assert below[0] - below[1] == pytest.approx(1.0)


def test_a_model_without_spread_is_refused() -> None:
    with pytest.raises(ValueError, match="same score"):
        Scale(1.0, 0.0).standardised(torch.ones(2))


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=6), min_size=1, max_size=6))
def test_moments_are_those_of_everything_seen(batches: list[list[float]]) -> None:
    moments, seen = RunningMoments(), []
    for batch in batches:
        moments.update(torch.tensor(batch, dtype=torch.float64))
        seen += batch
        mean = sum(seen) / len(seen)
        variance = sum((x - mean) ** 2 for x in seen) / (len(seen) - 1) if len(seen) > 1 else 0.0
        assert moments.count == len(seen)
        assert moments.mean == pytest.approx(mean, abs=1e-9)
        assert moments.std == pytest.approx(math.sqrt(variance), abs=1e-6)


def test_normalising_by_hand_and_over_a_resume() -> None:
    moments = RunningMoments()
    moments.update(torch.tensor([1.0, 3.0]))
    assert moments.normalise(torch.tensor([1.0, 3.0])).tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])
    again = RunningMoments()
    again.load_state_dict(moments.state_dict())
    for made in (moments, again):
        made.update(torch.tensor([8.0]))
    assert again == moments and moments.mean == 4.0
    assert moments.std == pytest.approx(13**0.5)  # squares 9 + 1 + 16 over 2


def test_equal_rewards_give_exactly_nothing() -> None:
    moments = RunningMoments()
    moments.update(torch.full((5,), 0.1))
    assert moments.normalise(torch.full((5,), 0.1)).tolist() == [0.0] * 5


def test_the_kl_coefficient_by_hand() -> None:
    # Twice the target: the error 1 is clipped to .2; 32 answers of 10000: beta * (1 + .2 * .0032).
    assert next_kl_coefficient(0.2, 12.0, target=6.0, horizon=10000, samples=32) == pytest.approx(0.2 * 1.00064)
    assert next_kl_coefficient(0.2, 6.6, target=6.0, horizon=10000, samples=32) == pytest.approx(0.2 * 1.00032)
    assert next_kl_coefficient(0.2, 0.0, target=6.0, horizon=10000, samples=32) == pytest.approx(0.2 * 0.99936)
    assert next_kl_coefficient(0.2, 6.0, target=6.0, horizon=10000, samples=32) == 0.2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_names_its_model(bad: float) -> None:
    require_finite(torch.tensor([1.0, 2.0]), "label reward model m")
    with pytest.raises(ValueError, match="1 of 2 scores of the label reward model m"):
        require_finite(torch.tensor([1.0, bad]), "label reward model m")
