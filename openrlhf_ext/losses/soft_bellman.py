"""Soft-Bellman residuals of OREO: how far stored trajectories are from an optimal policy and its value.

Wang et al. 2024, arXiv:2412.16145. With R the reward at the end, no discount and l_t = log pi(a_t|s_t) - log pi_ref(a_t|s_t), a pair
(pi, V) is optimal for reward minus beta KL iff V(s_t) = R - beta sum_{i>=t} l_i on every trajectory, V being 0 after the last action.

Columns: column t of a [B, A] tensor is the decision taken after token t. Its state is the text up to and including token t (the hidden
state at position t), its action is token t + 1. A sequence of L tokens therefore has A = L - 1 columns, which is the shape both of
OpenRLHF's log-probs and of its critic's values. `is_action`: the policy wrote token t + 1. `is_state`: the residual is taken here.
Columns that are neither (prompt, observations, padding on either side) take no part, whatever they hold.

Nothing is reduced here: `mean_per_trajectory` or OpenRLHF's `aggregate_loss(token_level_loss=False)` does that.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

LEVELS = ("token", "step", "response")


class States(NamedTuple):
    """Where the two residuals are taken; both [B, A] bool."""

    value: torch.Tensor
    policy: torch.Tensor


def states_of(level: str, is_action: torch.Tensor, starts_step: torch.Tensor) -> States:
    """The states of a level of the paper: every token; every step; at response level the first for the policy, every token for the value."""
    if level not in LEVELS:
        raise ValueError(f"level {level!r}: choose one of {', '.join(LEVELS)}")
    if level == "step":
        steps = step_states(is_action, starts_step)
        return States(steps, steps)
    tokens = token_states(is_action)
    return States(tokens, response_states(is_action) if level == "response" else tokens)


def token_states(is_action: torch.Tensor) -> torch.Tensor:
    """Token level: every action is taken in a state of its own; [B, A] bool."""
    return is_action.bool()


def response_states(is_action: torch.Tensor) -> torch.Tensor:
    """Response level: the only state is the one before the first action; [B, A] bool. For the policy loss only (see docs/oreo.md)."""
    kept = is_action.bool()
    return kept & (kept.cumsum(dim=-1) == 1)


def step_states(is_action: torch.Tensor, starts_step: torch.Tensor) -> torch.Tensor:
    """Step level: columns whose action begins a step, and the first action of every run of actions; [B, A] bool.

    A run that begins without a marked step (a turn after an observation) still begins a step: no action is left without a state.
    """
    kept = is_action.bool()
    return kept & (starts_step.bool() | ~_shifted_right(kept))


def turn_ends(is_action: torch.Tensor) -> torch.Tensor:
    """Columns right after the last action of every turn but the last: complete turns, where a best-of-K search reads the value; [B, A] bool.

    No action is taken there, so the paper's value loss never trains them; add them to its `is_state` to make the reading meaningful.
    """
    kept = is_action.bool()
    more = kept.flip(-1).cumsum(dim=-1).flip(-1) > 0
    return ~kept & _shifted_right(kept) & more


def log_ratio_to_go(log_ratios: torch.Tensor, is_action: torch.Tensor) -> torch.Tensor:
    """sum_{i>=t} l_i over the actions from column t on, across turns; [B, A]. Observations and padding add nothing."""
    return _only(log_ratios, is_action).flip(-1).cumsum(dim=-1).flip(-1)


def step_log_ratio(log_ratios: torch.Tensor, is_action: torch.Tensor, is_state: torch.Tensor) -> torch.Tensor:
    """At every state the sum of l over its own step, i.e. over the actions up to the next state; 0 elsewhere; [B, A].

    Differentiable; the gradient of a state reaches the actions of its own step and no others.
    """
    own = _only(log_ratios, is_action)
    step_of = is_state.long().cumsum(dim=-1)  # 0 before the first state
    sums = own.new_zeros(own.shape[0], own.shape[1] + 1).scatter_add(1, step_of, own)
    return _only(sums.gather(1, step_of), is_state)


def value_residual(
    values: torch.Tensor,
    log_ratios: torch.Tensor,
    rewards: torch.Tensor,
    is_action: torch.Tensor,
    is_state: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """V(s_t) + beta sg(sum_{i>=t} l_i) - R at the states, 0 elsewhere; [B, A]. Eq. 8 is its squared mean.

    `values`, `log_ratios`: [B, A]; `rewards`: [B]. Only `values` gets a gradient.
    """
    _require_shapes(values, log_ratios, rewards, is_action, is_state)
    to_go = log_ratio_to_go(log_ratios.detach(), is_action)
    return _only(values.to(to_go.dtype) + beta * to_go - rewards.detach().to(to_go.dtype).unsqueeze(-1), is_state)


def policy_residual(
    values: torch.Tensor,
    log_ratios: torch.Tensor,
    rewards: torch.Tensor,
    is_action: torch.Tensor,
    is_state: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """sg(V(s_t)) + beta (l of this step) + beta sg(l of later steps) - R at the states, 0 elsewhere; [B, A]. Eq. 9 at token level.

    `is_state` chooses the level: `token_states`, `step_states` or `response_states`. Only `log_ratios` gets a gradient, and each action
    gets it from the residual of its own step alone: with all later terms in the gradient a late token would be pulled once per earlier state.
    """
    _require_shapes(values, log_ratios, rewards, is_action, is_state)
    own = step_log_ratio(log_ratios, is_action, is_state)
    # The number is the plain sum to go; which part of it carries the gradient is all that the levels differ in.
    to_go = log_ratio_to_go(log_ratios.detach(), is_action) + (own - own.detach())
    return _only(
        values.detach().to(to_go.dtype) + beta * to_go - rewards.detach().to(to_go.dtype).unsqueeze(-1), is_state
    )


def mean_per_trajectory(terms: torch.Tensor, kept: torch.Tensor, trajectories: float | None = None) -> torch.Tensor:
    """Mean over the kept columns inside each trajectory, then over the trajectories; scalar.

    `trajectories`: how many there are in the whole optimiser step, over all micro-batches and ranks; default: those of this batch that
    keep a column. With it the micro-batches' results add up to the result of the whole batch. Rows that keep nothing count as absent.
    """
    counts = kept.sum(dim=-1)
    sums = _only(terms, kept).sum(dim=-1) / counts.clamp(min=1)
    return sums.sum() / ((counts > 0).sum().clamp(min=1) if trajectories is None else trajectories)


def _only(terms: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """`terms` in at least float32 where `kept`, else 0. Selected, not multiplied: padding may hold inf or nan."""
    wide = terms if terms.dtype == torch.float64 else terms.float()
    return torch.where(kept.bool(), wide, torch.zeros_like(wide))


def _shifted_right(mask: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros_like(mask[:, :1]), mask[:, :-1]], dim=-1)


def _require_shapes(
    values: torch.Tensor,
    log_ratios: torch.Tensor,
    rewards: torch.Tensor,
    is_action: torch.Tensor,
    is_state: torch.Tensor,
) -> None:
    shape = log_ratios.shape
    if len(shape) != 2 or any(other.shape != shape for other in (values, is_action, is_state)):
        raise ValueError(
            "values, log_ratios, is_action and is_state must share one shape [B, A], got "
            f"{tuple(values.shape)}, {tuple(shape)}, {tuple(is_action.shape)}, {tuple(is_state.shape)}"
        )
    if rewards.shape != shape[:1]:
        raise ValueError(f"rewards must be one number for each of {shape[0]} trajectories, got {tuple(rewards.shape)}")
