"""How rewards become advantages: golden sequences worked by hand, a naive loop beside each formula, and what must hold for any rewards."""

import math
import statistics
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openrlhf_ext.losses.normalise import RunningNormaliser, group_advantages, temperature_at

reward = st.floats(-2, 2, width=32)


def groups_of(size: int) -> st.SearchStrategy[list[list[float]]]:
    return st.lists(st.lists(reward, min_size=size, max_size=size), min_size=1, max_size=6)


def naive_group(rewards: list[float], eps: float) -> list[float]:
    mean, spread = statistics.fmean(rewards), statistics.stdev(rewards)
    return [(r - mean) / (spread + eps) for r in rewards]


def naive_running(groups: list[list[float]], max_momentum: float, eps: float) -> tuple[list[list[float]], list[tuple]]:
    mean = spread = None
    momentum, advantages, states = 0.0, [], []
    for group in groups:
        m, s = statistics.fmean(group), statistics.stdev(group)
        mean = m if mean is None else momentum * mean + (1 - momentum) * m
        spread = s if spread is None else momentum * spread + (1 - momentum) * s
        advantages.append([(r - mean) / (spread + eps) for r in group])
        momentum = min(max_momentum, momentum + 0.1)
        states.append((mean, spread, momentum))
    return advantages, states


def test_group_advantages_by_hand() -> None:
    # Group 1: mean 3, unbiased std 2. Group 2: mean 0.5, std of (0, 0, 1, 1) = sqrt(1/3).
    assert group_advantages(torch.tensor([[1.0, 3.0, 5.0]]), eps=0.0).tolist() == [[-1.0, 0.0, 1.0]]
    got = group_advantages(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), eps=1e-4)
    assert got.tolist()[0] == pytest.approx([-0.865876, -0.865876, 0.865876, 0.865876], abs=1e-5)


def test_eps_is_added_to_the_spread_not_to_the_variance() -> None:
    assert group_advantages(torch.tensor([[1.0, 3.0, 5.0]]), eps=2.0).tolist() == [[-0.5, 0.0, 0.5]]


@given(groups_of(5))
def test_group_advantages_equal_a_naive_loop(groups: list[list[float]]) -> None:
    got = group_advantages(torch.tensor(groups), eps=1e-2)
    for row, group in zip(got.tolist(), groups, strict=True):
        assert row == pytest.approx(naive_group(group, 1e-2), abs=1e-4)


@given(reward, st.integers(2, 33))
def test_a_group_of_equal_rewards_gives_exactly_zero(value: float, size: int) -> None:
    # 8 x 0.35 has a float32 mean that is not 0.35: rounding noise over eps would be a real gradient after Adam.
    assert group_advantages(torch.full((1, size), value)).abs().max().item() == 0.0


@given(groups_of(4), st.floats(0.5, 2), st.floats(-1, 1))
def test_shift_and_scale_of_a_group_do_not_matter_without_eps(
    groups: list[list[float]], scale: float, shift: float
) -> None:
    rewards = torch.tensor([g for g in groups if statistics.stdev(g) > 0.05] or [[0.0, 1.0, 0.0, 1.0]])
    torch.testing.assert_close(
        group_advantages(rewards * scale + shift, eps=0.0), group_advantages(rewards, eps=0.0), atol=1e-3, rtol=1e-3
    )


# mean, std of each group: (3, 2), (5, 1), (1, 0), (3, 2); m_max = 0.2, eps = 0.
GROUPS = [[1.0, 3.0, 5.0], [4.0, 5.0, 6.0], [1.0, 1.0, 1.0], [1.0, 3.0, 5.0]]
STATES = [
    (3.0, 2.0, 0.1),
    (0.1 * 3 + 0.9 * 5, 0.1 * 2 + 0.9 * 1, 0.2),  # 4.8, 1.1
    (0.2 * 4.8 + 0.8 * 1, 0.2 * 1.1, 0.2),  # 1.76, 0.22
    (0.2 * 1.76 + 0.8 * 3, 0.2 * 0.22 + 0.8 * 2, 0.2),  # 2.752, 1.644
]
ADVANTAGES = [
    [-1.0, 0.0, 1.0],
    [-0.8 / 1.1, 0.2 / 1.1, 1.2 / 1.1],
    [-0.76 / 0.22] * 3,
    [-1.752 / 1.644, 0.248 / 1.644, 2.248 / 1.644],
]


def test_running_statistics_by_hand() -> None:
    normaliser = RunningNormaliser(max_momentum=0.2, eps=0.0)
    for group, advantages, (mean, std, momentum) in zip(GROUPS, ADVANTAGES, STATES, strict=True):
        got = normaliser.update(torch.tensor([group]))
        assert got.tolist()[0] == pytest.approx(advantages, abs=1e-6)
        assert normaliser.state_dict() == pytest.approx({"mean": mean, "std": std, "momentum": momentum})


def test_a_batch_of_groups_is_taken_group_by_group() -> None:
    normaliser = RunningNormaliser(max_momentum=0.2, eps=0.0)
    torch.testing.assert_close(normaliser.update(torch.tensor(GROUPS)), torch.tensor(ADVANTAGES))
    assert normaliser.mean == pytest.approx(2.752)


def test_a_group_without_spread_still_gets_advantages_and_shrinks_the_spread() -> None:
    # Documented consequence of shared statistics (24-point report): sigma falls to m * sigma, all signs are equal.
    normaliser = RunningNormaliser(max_momentum=0.2, eps=0.0)
    normaliser.update(torch.tensor(GROUPS[:2]))
    flat = normaliser.update(torch.tensor([[1.0, 1.0, 1.0]]))
    assert normaliser.std == pytest.approx(0.2 * 1.1)
    assert (flat < 0).all()


@given(groups_of(4))
def test_no_momentum_is_plain_grpo(groups: list[list[float]]) -> None:
    rewards = torch.tensor(groups)
    normaliser = RunningNormaliser(max_momentum=0.0, eps=1e-4)
    torch.testing.assert_close(normaliser.update(rewards), group_advantages(rewards, 1e-4), atol=1e-3, rtol=1e-4)
    assert normaliser.momentum == 0.0


@given(groups_of(4), st.sampled_from([0.0, 0.05, 0.2, 0.35, 0.99]))
def test_running_statistics_equal_a_naive_loop(groups: list[list[float]], max_momentum: float) -> None:
    normaliser = RunningNormaliser(max_momentum=max_momentum, eps=1e-2)
    advantages, states = naive_running(groups, max_momentum, 1e-2)
    for group, row, (mean, std, momentum) in zip(groups, advantages, states, strict=True):
        assert normaliser.update(torch.tensor([group])).tolist()[0] == pytest.approx(row, abs=1e-3)
        assert (normaliser.mean, normaliser.std) == pytest.approx((mean, std), abs=1e-6)
        assert normaliser.momentum == momentum


def test_momentum_rises_by_a_tenth_up_to_its_limit() -> None:
    normaliser = RunningNormaliser(max_momentum=0.35)
    seen = []
    for _ in range(5):
        normaliser.update(torch.tensor([[0.0, 1.0]]))
        seen.append(normaliser.momentum)
    assert seen == pytest.approx([0.1, 0.2, 0.3, 0.35, 0.35])


@settings(max_examples=30)
@given(groups_of(3), groups_of(3))
def test_a_restored_normaliser_goes_on_as_if_nothing_had_happened(before: list, after: list) -> None:
    whole = RunningNormaliser(max_momentum=0.3)
    whole.update(torch.tensor(before))
    resumed = RunningNormaliser(max_momentum=0.3)
    resumed.load_state_dict(whole.state_dict())
    assert torch.equal(whole.update(torch.tensor(after)), resumed.update(torch.tensor(after)))
    assert whole.state_dict() == resumed.state_dict()


def test_the_state_before_the_first_group_can_be_restored() -> None:
    fresh = RunningNormaliser(max_momentum=0.3)
    other = RunningNormaliser(max_momentum=0.3)
    other.update(torch.tensor([[0.0, 1.0]]))
    other.load_state_dict(fresh.state_dict())
    assert (other.mean, other.std, other.momentum) == (None, None, 0.0)


@pytest.mark.parametrize("shape", [(4,), (2, 1), (2, 2, 2)])
def test_rewards_that_are_no_groups_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="groups, samples >= 2"):
        group_advantages(torch.zeros(shape))
    with pytest.raises(ValueError, match="groups, samples >= 2"):
        RunningNormaliser(0.2).update(torch.zeros(shape))


def test_temperature_goes_exponentially_from_start_to_final() -> None:
    # 1.6 -> 0.1 in four equal ratios of 1/2.
    assert [temperature_at(step, 5, 1.6, 0.1) for step in range(5)] == pytest.approx([1.6, 0.8, 0.4, 0.2, 0.1])


@pytest.mark.parametrize(("step", "max_steps", "final"), [(3, 10, None), (0, 1, 0.1), (0, 10, 0.1)])
def test_temperature_stays_at_the_start(step: int, max_steps: int, final: float | None) -> None:
    assert temperature_at(step, max_steps, 0.7, final) == 0.7


@given(st.integers(2, 300), st.floats(0.1, 2), st.floats(0.1, 2))
def test_temperature_is_monotone_and_ends_at_the_final_one(max_steps: int, start: float, final: float) -> None:
    values = [temperature_at(step, max_steps, start, final) for step in range(max_steps)]
    assert values[-1] == pytest.approx(final)
    assert temperature_at(max_steps + 7, max_steps, start, final) == pytest.approx(final)
    rising = final >= start
    assert all(math.isclose(a, b) or (b > a) == rising for a, b in pairwise(values))
