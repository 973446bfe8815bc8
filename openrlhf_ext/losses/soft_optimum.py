"""Finite trees whose optimal policy and value are known in closed form: a check that a soft-Bellman loss has the right minimum.

Every response is a path of `horizon` tokens, `branching` of them at each node, with a random reference policy and a 0/1 reward per path.
The optimum of reward minus beta KL(pi || pi_ref) on it is (arXiv:2412.16145, section 3, for a deterministic environment)

    V*(s) = beta log E_{a ~ pi_ref} exp(V*(sa) / beta),  V* = R at the leaves;    pi*(a|s) = pi_ref(a|s) exp((V*(sa) - V*(s)) / beta).

`fit` trains a table of values and a table of logits on all paths with the given residuals and says how far from it they end:

    fit(random_tree(seed=0, horizon=4, branching=3), beta=0.3)          # this package's losses, token level
    fit(tree, beta=0.3, policy_residual=mine)                           # any loss of the same signature
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from openrlhf_ext.losses import soft_bellman
from openrlhf_ext.losses.soft_bellman import mean_per_trajectory, states_of
from openrlhf_ext.losses.vocabulary import full_kl

Residual = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""(values, log_ratios, rewards, is_action, is_state, beta) -> [B, A], as `soft_bellman.value_residual`."""


@dataclass(frozen=True)
class Tree:
    """A complete tree. M = inner nodes, numbered level by level; P = paths = branching ** horizon.

    `ref_log_probs`: [M, branching] float64; `rewards`: [P], 0 or 1, both present; `paths`: [P, horizon], the token at every depth;
    `nodes`: [P, horizon], the inner node at which it is taken.
    """

    horizon: int
    branching: int
    ref_log_probs: torch.Tensor
    rewards: torch.Tensor
    paths: torch.Tensor
    nodes: torch.Tensor


class Optimum(NamedTuple):
    """V* and log pi* of every inner node: [M], [M, branching]."""

    values: torch.Tensor
    log_probs: torch.Tensor


@dataclass(frozen=True)
class Fit:
    """`value_error`: max |V - V*| over the trained states; `policy_error`: max |pi - pi*| over all decisions; chances of a reward of 1."""

    value_error: float
    policy_error: float
    success: float
    reference_success: float
    optimal_success: float
    lowest_value: float
    highest_value: float


def random_tree(seed: int, horizon: int = 4, branching: int = 3, success_rate: float = 0.5) -> Tree:
    """A tree with normal reference logits and rewards that are 1 on about `success_rate` of the paths. Same arguments, same tree."""
    if horizon < 1 or branching < 2 or branching**horizon > 100_000:
        raise ValueError(
            f"horizon {horizon} and branching {branching} make {branching ** max(horizon, 0)} paths: "
            "take horizon >= 1, branching >= 2 and at most 100000 paths"
        )
    generator = torch.Generator().manual_seed(seed)
    count = branching**horizon
    inner = sum(branching**depth for depth in range(horizon))
    logits = torch.randn(inner, branching, generator=generator, dtype=torch.float64)
    rewards = (torch.rand(count, generator=generator, dtype=torch.float64) < success_rate).double()
    rewards[0], rewards[-1] = 0.0, 1.0
    path = torch.arange(count)
    first, nodes, tokens = 0, [], []
    for depth in range(horizon):
        prefix = path // branching ** (horizon - depth)
        nodes.append(first + prefix)
        tokens.append(path // branching ** (horizon - depth - 1) % branching)
        first += branching**depth
    return Tree(
        horizon, branching, logits.log_softmax(-1), rewards, torch.stack(tokens, dim=1), torch.stack(nodes, dim=1)
    )


def optimum(tree: Tree, beta: float) -> Optimum:
    """The closed form, from the leaves to the root."""
    below, values, log_probs = tree.rewards, [], []
    end = len(tree.ref_log_probs)
    for depth in reversed(range(tree.horizon)):
        begin = end - tree.branching**depth
        scores = tree.ref_log_probs[begin:end] + below.reshape(-1, tree.branching) / beta
        below = beta * scores.logsumexp(-1)
        values.append(below)
        log_probs.append(scores.log_softmax(-1))
        end = begin
    return Optimum(torch.cat(values[::-1]), torch.cat(log_probs[::-1]))


def success(tree: Tree, log_probs: torch.Tensor) -> float:
    """The chance that a path drawn from the policy `log_probs` [M, branching] is rewarded."""
    return (_of_paths(tree, log_probs).sum(-1).exp() * tree.rewards).sum().item()


def fit(
    tree: Tree,
    beta: float,
    level: str = "token",
    *,
    alpha: float = 0.0,
    step_length: int = 2,
    updates: int = 1000,
    learning_rate: float = 0.05,
    only: torch.Tensor | None = None,
    value_residual: Residual = soft_bellman.value_residual,
    policy_residual: Residual = soft_bellman.policy_residual,
) -> Fit:
    """Train tables from V = 0, pi = pi_ref on the paths (those of `only` [P] bool, default all), one Adam step per update.

    `level` as in the paper: at step level both losses take the steps of `step_length` tokens as actions, at response level the policy loss
    alone takes the response as one. `alpha` weighs the exact KL to the reference. The learning rate falls to 0 along a cosine.
    """
    chosen = torch.ones(len(tree.paths), dtype=torch.bool) if only is None else only.bool()
    paths, nodes, rewards = tree.paths[chosen], tree.nodes[chosen], tree.rewards[chosen]
    is_action = torch.ones_like(paths, dtype=torch.bool)
    starts_step = (torch.arange(tree.horizon) % step_length == 0).expand_as(is_action)
    value_state, policy_state = states_of(level, is_action, starts_step)
    values = torch.zeros(len(tree.ref_log_probs), dtype=torch.float64, requires_grad=True)
    logits = tree.ref_log_probs.clone().requires_grad_(True)
    # eps far below the gradients of rare nodes: with the default the last digits stop moving.
    optimiser = torch.optim.Adam([values, logits], lr=learning_rate, eps=1e-12)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: (1 + math.cos(math.pi * done / updates)) / 2)
    for _ in range(updates):
        log_probs = logits.log_softmax(-1)
        ratios = (log_probs - tree.ref_log_probs)[nodes, paths]
        batch = (values[nodes], ratios, rewards, is_action)
        loss = mean_per_trajectory(value_residual(*batch, value_state, beta).square(), value_state)
        loss = loss + mean_per_trajectory(policy_residual(*batch, policy_state, beta).square(), policy_state)
        if alpha:
            loss = loss + alpha * mean_per_trajectory(full_kl(logits, tree.ref_log_probs)[nodes], is_action)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return _compare(tree, beta, values.detach(), logits.detach().log_softmax(-1), nodes[value_state].unique())


def _compare(tree: Tree, beta: float, values: torch.Tensor, log_probs: torch.Tensor, trained: torch.Tensor) -> Fit:
    best = optimum(tree, beta)
    return Fit(
        value_error=(values - best.values)[trained].abs().max().item(),
        policy_error=(log_probs.exp() - best.log_probs.exp()).abs().max().item(),
        success=success(tree, log_probs),
        reference_success=success(tree, tree.ref_log_probs),
        optimal_success=success(tree, best.log_probs),
        lowest_value=values.min().item(),
        highest_value=values.max().item(),
    )


def _of_paths(tree: Tree, table: torch.Tensor) -> torch.Tensor:
    """[M, branching] -> [P, horizon]: the entries along every path."""
    return table[tree.nodes, tree.paths]
