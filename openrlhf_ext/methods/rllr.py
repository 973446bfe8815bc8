"""RLLR: PPO with a label-sensitive reward (Liao et al. 2024, arXiv:2405.19763), for language understanding turned into generation.

Two reward models score every answer: one from pairs that differ in the label, one from pairs that differ in the rationale alone. The reward
is `min(label, tau) + weight * rationale`: once the label is surely right, only the rationale still pays. `rllr.reward` names the arm: `label`,
`rationale` (ordinary RLHF), `mixed`, or `exact-match` (the verifier's 0/1, no reward model). What the verifier says of the learned arms'
answers is logged and is no part of their reward.

Departures: advantages are whitened over the whole batch, not over 2 to 8 answers; the critic is a model of its own (the public code's
adapter on the policy's trunk got no gradient); Bradley-Terry at the last token trains the reward models; rollouts use no top-k.

Run: ``openrlhf-ext train rllr --config examples/configs/rllr_toy_tiny.yaml``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.methods.base import Recipe, RolloutMethod
from openrlhf_ext.record.reward_scale import RewardScale, read_scale

if TYPE_CHECKING:
    from openrlhf_ext.config.resolved import Resolved
    from openrlhf_ext.methods.rllr_maker import RllrExperienceMaker
    from openrlhf_ext.rollout.source import Rollout


class LabelSensitive(RolloutMethod):
    """The arm's reward models, how their scores are combined, and the running moments of the sum."""

    def __init__(self, resolved: Resolved) -> None:
        from openrlhf_ext.losses.rllr import Combination, RunningMoments, Scale

        self.options = options = resolved.rllr
        self.models: dict[str, str] = {role: _local(resolved.text(f"rllr.{role}_model")) for role in options.models}
        scales = {role: read_scale(Path(model)) for role, model in self.models.items()}
        known = {role: Scale(s.mean, s.std) for role, s in scales.items() if s and options.standardise}
        self.combination = Combination(
            tau=_tau(options.tau, scales.get("label")) if options.reward == "mixed" else None,
            weight=options.weight,
            label_scale=known.get("label", Scale()),
            rationale_scale=known.get("rationale", Scale()),
        )
        self.moments = RunningMoments() if options.normalise else None
        self.groups: dict[str, object] = {}
        self._rollout: Rollout | None = None
        self._columns: dict[str, float] = {}

    def start_workers(self, start: Callable[[str, type], object], strategy: object) -> list:
        """One group of workers for each reward model of the arm."""
        if not self.models:
            return []
        from openrlhf_ext.methods.rllr_workers import RewardWorker

        starting = []
        for role, model in self.models.items():
            group = self.groups[role] = start(f"{role}_reward", RewardWorker)
            starting += group.async_init_model_from_pretrained(strategy, model)  # type: ignore[attr-defined]
        return starting

    def configure(self, maker: RllrExperienceMaker) -> None:  # type: ignore[override]
        maker.method, maker.whiten_advantages = self, self.options.whiten

    def observe(self, rollout: Rollout) -> None:
        self._rollout, self._columns = rollout, {}

    def record(
        self, columns: Mapping[str, Sequence[float]], rewards: Sequence[float], summary: dict[str, float]
    ) -> None:
        """Keep what the answers of this step scored, in rollout order: in their rows, and as means in the metrics."""
        assert self._rollout is not None
        for number, row in enumerate(self._rollout.rows):
            scores = {name: values[number] for name, values in columns.items()}
            row["reward"] = rewards[number]
            row["extra_logs"] = row["extra_logs"] | scores
        self.note(summary)

    def formless(self) -> list[bool]:
        """Which answers of this step, in rollout order, have no readable label line or were cut off. Says nothing of whether a label is right."""
        assert self._rollout is not None
        return [not row["extra_logs"].get("parsed", 1.0) or bool(row.get("truncated")) for row in self._rollout.rows]

    def note(self, metrics: Mapping[str, float]) -> None:
        """Numbers of this step for the metrics row; a name without a prefix is of the rollout."""
        self._columns |= metrics

    def metrics(self, rollout: Rollout) -> dict[str, float]:
        found = {f"rollout/{name}" if "/" not in name else name: value for name, value in self._columns.items()}
        if self.moments is not None and self.moments.count:
            found |= {"train/reward_moment_mean": self.moments.mean, "train/reward_moment_std": self.moments.std}
        return found

    def state_dict(self) -> dict:
        return {"reward": self.options.reward, "moments": self.moments.state_dict() if self.moments else None}

    def load_state_dict(self, state: dict) -> None:
        before = state.get("reward", self.options.reward)
        if before != self.options.reward:
            raise ValueError(
                f"the checkpoint is of arm {before}, this run is of arm {self.options.reward}: resume the same"
            )
        if self.moments is not None and state.get("moments"):
            self.moments.load_state_dict(state["moments"])


def _tau(given: float | None, scale: RewardScale | None) -> float:
    """The cap of the label score: the request's, else what the label model's held-out pairs suggest."""
    if given is not None:
        return given
    if scale is None:
        raise ValueError("rllr.tau is not set and the label model has no reward_scale.json to take it from")
    return scale.tau


def _local(model: str) -> str:
    """A folder's absolute path: workers may start in another folder."""
    return str(Path(model).absolute()) if Path(model).exists() else model


RLLR = Recipe(
    "rllr",
    program="ppo",
    kind="rollout",
    maker="openrlhf_ext.methods.rllr_maker:RllrExperienceMaker",
    method=lambda resolved, plan: LabelSensitive(resolved),
)
