"""Reverse-curriculum PPO (R3; Xi et al. 2024, arXiv:2402.05808): start states along a demonstration, an outcome reward alone.

PPO with a critic. Prompts are rows of `prepare reverse-curriculum`: the question and the first k units of its demonstration. What differs
between the modes is only which start state comes next (`curriculum.py`): `mixed` = all stages shuffled together (the paper's method),
`staged` = from the nearest to the end back to the question, `plain` = the question alone (ordinary outcome RL), `adaptive` = shares that
follow the measured success.

Departures: the critic is a model of its own in every task (the paper's code for mathematics shares the policy's trunk), and it starts
from the policy's start model (that code's other critic was random by mistake).

Run: ``openrlhf-ext train reverse-curriculum --config examples/configs/reverse_curriculum_chain_tiny.yaml``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openrlhf_ext.curriculum import equal_budgets
from openrlhf_ext.methods.base import Recipe, RolloutMethod
from openrlhf_ext.rollout.start_states import StageStream, make_stream, observe, stage_metrics, stages_of

if TYPE_CHECKING:
    from openrlhf_ext.config.schema import ReverseCurriculum
    from openrlhf_ext.methods.reverse_curriculum_maker import ReverseCurriculumExperienceMaker
    from openrlhf_ext.rollout.prompts import Prompt, Stream
    from openrlhf_ext.rollout.source import Rollout


class StartStates(RolloutMethod):
    """Which start states are trained on; the schedule's state is kept with the stream's."""

    def __init__(self, options: ReverseCurriculum, total: int | None = None) -> None:
        """``total``: start states of the whole run, which staged training shares evenly; None = one pass over each stage."""
        self.options, self.total = options, total
        self.stages: dict[int, int] = {}
        self.stage_stream: StageStream | None = None

    def stream(self, prompts: Sequence[Prompt], seed: int) -> Stream:
        options = self.options
        self.stages = stages_of(prompts)
        budgets = options.budgets
        if options.mode == "staged" and not budgets and self.total:
            budgets = equal_budgets(self.total, len(set(self.stages.values())))
        made = make_stream(
            options.mode,
            prompts,
            seed,
            budgets=budgets,
            floor=options.adaptive_floor,
            memory=options.adaptive_memory,
        )
        self.stage_stream = made if isinstance(made, StageStream) else None
        return made

    def configure(self, maker: ReverseCurriculumExperienceMaker) -> None:  # type: ignore[override]
        maker.whiten_advantages = self.options.whiten

    def observe(self, rollout: Rollout) -> None:
        if self.stage_stream is not None:
            observe(self.stage_stream.schedule, rollout.rows, self.stages)

    def state_dict(self) -> dict:
        return {"mode": self.options.mode}

    def load_state_dict(self, state: dict) -> None:
        before = state.get("mode", self.options.mode)
        if before != self.options.mode:
            raise ValueError(
                f"the checkpoint was written in mode {before}, this run is in mode {self.options.mode}: resume with the same"
            )

    def metrics(self, rollout: Rollout) -> dict[str, float]:
        found = stage_metrics(rollout.rows, self.stages)
        if self.stage_stream is not None:
            found |= {f"rollout/{name}": value for name, value in self.stage_stream.schedule.metrics().items()}
        return found


REVERSE_CURRICULUM = Recipe(
    "reverse-curriculum",
    program="ppo",
    kind="rollout",
    maker="openrlhf_ext.methods.reverse_curriculum_maker:ReverseCurriculumExperienceMaker",
    method=lambda resolved, plan: StartStates(resolved.reverse_curriculum, plan.batch.prompts_total),
)
