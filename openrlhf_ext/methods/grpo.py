"""GRPO (Shao et al. 2024, arXiv:2402.03300) with the 24-point report's options.

Groups of samples of one prompt; the advantage of a sample is its reward against its group's mean and spread, or, with
`grpo.max_momentum > 0`, against running statistics that all prompts share (dynamic normalisation). KL to the frozen reference is a
loss term, averaged per sequence like the policy loss.

Departures: the KL estimator is k3 by default, as the report's formula says; the report's code used k1, whose on-policy gradient is
zero in expectation (`algo.kl.estimator: k1` restores it). The spread is floored by `grpo.advantage_eps`.

Run: ``openrlhf-ext train grpo --config examples/configs/grpo_game24_tiny.yaml``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from openrlhf_ext.methods.base import Recipe

if TYPE_CHECKING:
    from openrlhf_ext.config.schema import Grpo
    from openrlhf_ext.losses.normalise import RunningNormaliser

GRPO = Recipe("grpo", program="ppo", kind="rollout", maker="openrlhf_ext.methods.grpo_maker:GrpoExperienceMaker")


def make_normaliser(grpo: Grpo) -> RunningNormaliser | None:
    """The running statistics of this run, or None where every group stands for itself."""
    from openrlhf_ext.losses.normalise import RunningNormaliser

    if grpo.max_momentum == 0:
        return None
    return RunningNormaliser(max_momentum=grpo.max_momentum, eps=grpo.advantage_eps)
