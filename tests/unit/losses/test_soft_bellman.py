"""OREO's residuals: numbers worked by hand, a loop over tokens beside every formula, and which tensor may get a gradient from which loss."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openrlhf_ext.losses.soft_bellman import (
    LEVELS,
    log_ratio_to_go,
    mean_per_trajectory,
    policy_residual,
    response_states,
    states_of,
    step_log_ratio,
    step_states,
    token_states,
    turn_ends,
    value_residual,
)

# Two turns: columns 1-3 are the first turn (two steps: 1-2 and 3), 4-5 the observation, 6-7 the second turn.
IS_ACTION = torch.tensor([[0, 1, 1, 1, 0, 0, 1, 1]]).bool()
STARTS = torch.tensor([[0, 1, 0, 1, 0, 0, 1, 0]]).bool()
LOG_RATIOS = torch.tensor([[9.0, 1.0, 2.0, -3.0, 9.0, 9.0, 4.0, -1.0]])
VALUES = torch.tensor([[9.0, 0.5, 0.25, 0.0, 0.125, 9.0, 1.0, -0.5]])
REWARD = torch.tensor([1.0])


def states(level: str, is_action: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    return states_of(level, is_action, starts).policy


def naive(
    values: list[float], ratios: list[float], reward: float, is_action: list[bool], is_state: list[bool], beta: float
) -> list[float]:
    """V(s_t) + beta sum_{i>=t} l_i - R for every state of one trajectory, by two loops."""
    found = []
    for t in range(len(ratios)):
        total = 0.0
        for i in range(t, len(ratios)):
            total += ratios[i] if is_action[i] else 0.0
        found.append(values[t] + beta * total - reward if is_state[t] else 0.0)
    return found


def naive_own_step(t: int, is_action: list[bool], is_state: list[bool]) -> list[int]:
    """The actions whose log-ratio carries the gradient of the residual at state t."""
    own = []
    for i in range(t, len(is_action)):
        if i > t and is_state[i]:
            break
        own += [i] if is_action[i] else []
    return own


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, ...]:
    """values, log_ratios, rewards, is_action, starts in float64, with junk in the columns that do not count."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    number = st.floats(-3, 3)
    table = st.lists(st.lists(number, min_size=columns, max_size=columns), min_size=rows, max_size=rows)
    bits = st.lists(st.lists(st.booleans(), min_size=columns, max_size=columns), min_size=rows, max_size=rows)
    double = torch.float64
    return (
        torch.tensor(draw(table), dtype=double),
        torch.tensor(draw(table), dtype=double),
        torch.tensor(draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=rows, max_size=rows)), dtype=double),
        torch.tensor(draw(bits)),
        torch.tensor(draw(bits)),
    )


def test_states_of_the_three_levels() -> None:
    assert token_states(IS_ACTION).tolist() == IS_ACTION.tolist()
    assert response_states(IS_ACTION).long().tolist() == [[0, 1, 0, 0, 0, 0, 0, 0]]
    assert step_states(IS_ACTION, STARTS).long().tolist() == [[0, 1, 0, 1, 0, 0, 1, 0]]
    assert turn_ends(IS_ACTION).long().tolist() == [[0, 0, 0, 0, 1, 0, 0, 0]]


def test_the_value_is_trained_at_every_token_unless_the_level_is_step() -> None:
    for level, want in (("token", IS_ACTION), ("response", IS_ACTION), ("step", step_states(IS_ACTION, STARTS))):
        assert states_of(level, IS_ACTION, STARTS).value.tolist() == want.tolist()
    with pytest.raises(ValueError, match="choose one of token, step, response"):
        states_of("sentence", IS_ACTION, STARTS)


def test_a_run_of_actions_begins_a_step_even_where_no_step_is_marked() -> None:
    assert step_states(IS_ACTION, torch.zeros_like(STARTS)).long().tolist() == [[0, 1, 0, 0, 0, 0, 1, 0]]


def test_a_step_marked_on_an_observation_is_no_state() -> None:
    assert step_states(IS_ACTION, torch.ones_like(STARTS)).tolist() == IS_ACTION.tolist()


def test_residuals_by_hand() -> None:
    # To go from columns 1, 2, 3, 6, 7: 1+2-3+4-1 = 3, 2, 0, 3, -1. beta 0.1, R 1.
    assert log_ratio_to_go(LOG_RATIOS, IS_ACTION)[0, [1, 2, 3, 6, 7]].tolist() == [3, 2, 0, 3, -1]
    want = [0, 0.5 + 0.3 - 1, 0.25 + 0.2 - 1, 0 + 0 - 1, 0, 0, 1 + 0.3 - 1, -0.5 - 0.1 - 1]
    for residual in (value_residual, policy_residual):
        got = residual(VALUES, LOG_RATIOS, REWARD, IS_ACTION, token_states(IS_ACTION), 0.1)
        assert got[0].tolist() == pytest.approx(want, abs=1e-6)
    loss = mean_per_trajectory(got.square(), IS_ACTION)
    assert loss.item() == pytest.approx((0.04 + 0.3025 + 1 + 0.09 + 2.56) / 5, abs=1e-6)


def test_step_and_response_level_by_hand() -> None:
    steps = step_states(IS_ACTION, STARTS)
    assert step_log_ratio(LOG_RATIOS, IS_ACTION, steps).tolist() == [[0, 3, 0, -3, 0, 0, 3, 0]]
    got = policy_residual(VALUES, LOG_RATIOS, REWARD, IS_ACTION, steps, 0.1)
    assert got[0].tolist() == pytest.approx([0, -0.2, 0, -1.0, 0, 0, 0.3, 0], abs=1e-6)
    assert mean_per_trajectory(got.square(), steps).item() == pytest.approx((0.04 + 1 + 0.09) / 3, abs=1e-6)
    whole = policy_residual(VALUES, LOG_RATIOS, REWARD, IS_ACTION, response_states(IS_ACTION), 0.1)
    assert mean_per_trajectory(whole.square(), response_states(IS_ACTION)).item() == pytest.approx(0.04, abs=1e-6)


@given(batches(), st.sampled_from(LEVELS), st.floats(0.01, 2))
def test_residuals_equal_a_loop_over_tokens(batch: tuple[torch.Tensor, ...], level: str, beta: float) -> None:
    values, ratios, rewards, is_action, starts = batch
    is_state = states(level, is_action, starts)
    for residual in (value_residual, policy_residual):
        got = residual(values, ratios, rewards, is_action, is_state, beta)
        for b in range(len(rewards)):
            row = [x[b].tolist() for x in (values, ratios)]
            want = naive(*row, rewards[b].item(), is_action[b].tolist(), is_state[b].tolist(), beta)
            assert got[b].tolist() == pytest.approx(want, abs=1e-9)


@given(batches(), st.sampled_from(LEVELS))
def test_each_action_gets_its_gradient_from_its_own_step(batch: tuple[torch.Tensor, ...], level: str) -> None:
    values, ratios, rewards, is_action, starts = batch
    is_state, beta = states(level, is_action, starts), 0.3
    ratios.requires_grad_(True)
    residual = policy_residual(values, ratios, rewards, is_action, is_state, beta)
    mean_per_trajectory(residual.square(), is_state).backward()
    want = torch.zeros_like(values)
    used = int(is_state.any(dim=-1).sum())
    for b in range(len(rewards)):
        bits, marks = is_action[b].tolist(), is_state[b].tolist()
        for t in [t for t, mark in enumerate(marks) if mark]:
            for i in naive_own_step(t, bits, marks):
                want[b, i] += 2 * residual[b, t].item() * beta / sum(marks) / used
    torch.testing.assert_close(ratios.grad, want)


def test_every_action_of_a_step_batch_is_in_exactly_one_step() -> None:
    # The control: were the gradient that of the full sum to go, the last action would be in five residuals and the first in one.
    ratios = LOG_RATIOS.clone().requires_grad_(True)
    policy_residual(VALUES, ratios, REWARD, IS_ACTION, token_states(IS_ACTION), 1.0).sum().backward()
    assert ratios.grad.tolist() == IS_ACTION.float().tolist()
    full = LOG_RATIOS.clone().requires_grad_(True)
    log_ratio_to_go(full, IS_ACTION)[IS_ACTION].sum().backward()
    assert full.grad.tolist() == [[0, 1, 2, 3, 0, 0, 4, 5]]


@pytest.mark.parametrize("level", LEVELS)
def test_no_loss_reaches_the_other_network_or_the_reward(level: str) -> None:
    def leaves() -> list[torch.Tensor]:
        return [x.clone().requires_grad_(True) for x in (VALUES, LOG_RATIOS, REWARD)]

    is_state = states(level, IS_ACTION, STARTS)
    values, ratios, rewards = leaves()
    value_residual(values, ratios, rewards, IS_ACTION, is_state, 0.1).square().sum().backward()
    assert ratios.grad is None and rewards.grad is None and values.grad.abs().sum() > 0
    assert (values.grad[~is_state] == 0).all()
    values, ratios, rewards = leaves()
    policy_residual(values, ratios, rewards, IS_ACTION, is_state, 0.1).square().sum().backward()
    assert values.grad is None and rewards.grad is None and ratios.grad.abs().sum() > 0
    assert (ratios.grad[~IS_ACTION] == 0).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("junk", [7.0, math.inf, math.nan])
def test_padding_on_either_side_changes_nothing_whatever_it_holds(level: str, junk: float) -> None:
    def losses(left: int, right: int, fill: float) -> tuple[list[float], torch.Tensor, torch.Tensor]:
        def pad(x: torch.Tensor, value: float) -> torch.Tensor:
            return torch.nn.functional.pad(x, (left, right), value=value)

        is_action, is_state = pad(IS_ACTION, False), pad(states(level, IS_ACTION, STARTS), False)
        values = pad(VALUES, fill).requires_grad_(True)
        ratios = pad(LOG_RATIOS, fill).requires_grad_(True)
        value = mean_per_trajectory(value_residual(values, ratios, REWARD, is_action, is_state, 0.1).square(), is_state)
        policy = mean_per_trajectory(
            policy_residual(values, ratios, REWARD, is_action, is_state, 0.1).square(), is_state
        )
        (value + policy).backward()
        end = left + VALUES.shape[1]
        return [value.item(), policy.item()], values.grad[:, left:end], ratios.grad[:, left:end]

    plain = losses(0, 0, 0.0)
    for left, right in ((3, 0), (0, 4), (2, 5)):
        got = losses(left, right, junk)
        assert got[0] == pytest.approx(plain[0], abs=1e-6)
        torch.testing.assert_close(got[1], plain[1])
        torch.testing.assert_close(got[2], plain[2])


@given(batches(), st.sampled_from(LEVELS), st.integers(1, 3))
def test_micro_batches_add_up_to_the_batch(batch: tuple[torch.Tensor, ...], level: str, size: int) -> None:
    values, ratios, rewards, is_action, starts = batch
    is_state = states(level, is_action, starts)
    used = max(int(is_state.any(dim=-1).sum()), 1)
    ratios.requires_grad_(True)

    def loss(rows: slice, trajectories: float | None) -> torch.Tensor:
        parts = [x[rows] for x in (values, ratios, rewards, is_action, is_state)]
        return mean_per_trajectory(policy_residual(*parts, 0.5).square(), is_state[rows], trajectories)

    whole = loss(slice(None), None)
    (want,) = torch.autograd.grad(whole, ratios)
    pieces = [loss(slice(i, i + size), used) for i in range(0, len(rewards), size)]
    (got,) = torch.autograd.grad(torch.stack(pieces).sum(), ratios)
    assert sum(p.item() for p in pieces) == pytest.approx(whole.item(), abs=1e-9)
    torch.testing.assert_close(got, want)


def test_the_mean_is_taken_inside_a_trajectory_first() -> None:
    # Means 1 and 4 of a long and a short trajectory: 2.5; a mean over all tokens would say 1.75. The empty third row is absent.
    terms = torch.tensor([[1.0, 1.0, 1.0], [4.0, 9.0, 9.0], [5.0, 5.0, 5.0]])
    kept = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    assert mean_per_trajectory(terms, kept).item() == 2.5
    assert mean_per_trajectory(terms, torch.zeros_like(kept)).item() == 0.0


@given(batches(), st.floats(0.05, 2))
@settings(max_examples=50)
def test_an_optimal_pair_has_no_residual_at_any_level(batch: tuple[torch.Tensor, ...], beta: float) -> None:
    _, ratios, rewards, is_action, starts = batch
    optimal = rewards.unsqueeze(-1) - beta * log_ratio_to_go(ratios, is_action)
    for level in LEVELS:
        is_state = states(level, is_action, starts)
        for residual in (value_residual, policy_residual):
            assert residual(optimal, ratios, rewards, is_action, is_state, beta).abs().max().item() < 1e-9
    # and a boundary state fits too: its target is the sum to go of the later turns
    assert value_residual(optimal, ratios, rewards, is_action, turn_ends(is_action), beta).abs().max().item() < 1e-9


def test_values_read_one_column_off_do_have_a_residual() -> None:
    optimal = REWARD.unsqueeze(-1) - 0.1 * log_ratio_to_go(LOG_RATIOS, IS_ACTION)
    shifted = optimal.roll(1, dims=1)
    assert value_residual(shifted, LOG_RATIOS, REWARD, IS_ACTION, IS_ACTION, 0.1).abs().max().item() > 0.3


def test_half_precision_is_summed_in_single() -> None:
    ratios = torch.full((1, 4000), 0.001, dtype=torch.bfloat16)
    kept = torch.ones_like(ratios).bool()
    step = float(torch.tensor(0.001, dtype=torch.bfloat16))
    assert log_ratio_to_go(ratios, kept)[0, 0].item() == pytest.approx(4000 * step, rel=1e-4)
    assert value_residual(ratios, ratios, REWARD, kept, kept, 0.1).dtype == torch.float32


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"share one shape \[B, A\].*\(1, 9\)"):
        value_residual(torch.zeros(1, 9), LOG_RATIOS, REWARD, IS_ACTION, IS_ACTION, 0.1)
    with pytest.raises(ValueError, match="one number for each of 1 trajectories"):
        policy_residual(VALUES, LOG_RATIOS, torch.zeros(2), IS_ACTION, IS_ACTION, 0.1)
