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

from openrlhf_ext.methods.base import Recipe, RolloutMethod

if TYPE_CHECKING:
    from openrlhf_ext.config.schema import Grpo
    from openrlhf_ext.methods.grpo_maker import GrpoExperienceMaker
    from openrlhf_ext.rollout.source import Rollout


class GroupRelative(RolloutMethod):
    """How rewards become advantages, and the running statistics where groups share them."""

    def __init__(self, grpo: Grpo) -> None:
        from openrlhf_ext.losses.normalise import RunningNormaliser

        self.advantage_eps = grpo.advantage_eps
        self.normaliser = (
            RunningNormaliser(max_momentum=grpo.max_momentum, eps=grpo.advantage_eps) if grpo.max_momentum else None
        )

    def configure(self, maker: GrpoExperienceMaker) -> None:  # type: ignore[override]
        maker.normaliser, maker.advantage_eps = self.normaliser, self.advantage_eps

    def metrics(self, rollout: Rollout) -> dict[str, float]:
        return {f"train/normaliser_{name}": value for name, value in self.state_dict().items() if value is not None}

    def state_dict(self) -> dict:
        return self.normaliser.state_dict() if self.normaliser else {}

    def load_state_dict(self, state: dict) -> None:
        if self.normaliser and state:
            self.normaliser.load_state_dict(state)


GRPO = Recipe(
    "grpo",
    program="ppo",
    kind="rollout",
    maker="openrlhf_ext.methods.grpo_maker:GrpoExperienceMaker",
    method=lambda resolved, plan: GroupRelative(resolved.grpo),
)
