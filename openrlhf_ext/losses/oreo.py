"""OREO's two losses on one micro-batch, as shares of the loss of a whole optimiser step (arXiv:2412.16145, eq. 8 and 9).

Columns as in `soft_bellman`: [B, A], column t decides token t + 1. The shares of all micro-batches and ranks add up to the loss of the
step: the mean over the states inside a trajectory, then over its `trajectories`, however they were cut into micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from openrlhf_ext.losses.soft_bellman import (
    States,
    mean_per_trajectory,
    policy_residual,
    states_of,
    turn_ends,
    value_residual,
)

ALPHA = {"token": 0.01, "step": 0.1, "response": 0.3}
"""The paper's weight of the regulariser for each level."""


@dataclass(frozen=True)
class Objective:
    """What is minimised. `level`: token, step or response; `turn_ends`: also train V right after every complete turn but the last."""

    level: str = "token"
    beta: float = 0.03
    alpha: float = 0.01
    turn_ends: bool = False

    def states(self, is_action: torch.Tensor, starts_step: torch.Tensor) -> States:
        """Where the two residuals are taken; [B, A] bool each."""
        found = states_of(self.level, is_action, starts_step)
        return States(found.value | turn_ends(is_action), found.policy) if self.turn_ends else found


class PolicyShare(NamedTuple):
    """Shares of the step's policy loss; scalars. `loss` = `bellman` + alpha * `regulariser`."""

    loss: torch.Tensor
    bellman: torch.Tensor
    regulariser: torch.Tensor


def value_share(
    objective: Objective,
    values: torch.Tensor,
    log_ratios: torch.Tensor,
    rewards: torch.Tensor,
    is_action: torch.Tensor,
    starts_step: torch.Tensor,
    trajectories: int,
) -> torch.Tensor:
    """This micro-batch's share of the value loss; scalar, with a gradient to `values` alone."""
    states = objective.states(is_action, starts_step).value
    residual = value_residual(values, log_ratios, rewards, is_action, states, objective.beta)
    return mean_per_trajectory(residual.square(), states, trajectories)


def policy_share(
    objective: Objective,
    values: torch.Tensor,
    log_ratios: torch.Tensor,
    kl: torch.Tensor,
    rewards: torch.Tensor,
    is_action: torch.Tensor,
    starts_step: torch.Tensor,
    trajectories: int,
) -> PolicyShare:
    """This micro-batch's share of the policy loss, with a gradient to `log_ratios` and `kl`.

    `values`: those of the value network before its update of this step; `kl`: the divergence at every action.
    """
    states = objective.states(is_action, starts_step).policy
    residual = policy_residual(values, log_ratios, rewards, is_action, states, objective.beta)
    bellman = mean_per_trajectory(residual.square(), states, trajectories)
    regulariser = mean_per_trajectory(kl, is_action, trajectories)
    return PolicyShare(bellman + objective.alpha * regulariser, bellman, regulariser)
