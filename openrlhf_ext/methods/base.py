"""What a method is, as a value: which upstream program it stands on and which classes of ours take part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from openrlhf_ext.config.resolved import Resolved
    from openrlhf_ext.plan import Plan
    from openrlhf_ext.rollout.prompts import Prompt, Stream
    from openrlhf_ext.rollout.source import Rollout


class RolloutMethod:
    """What a rollout method adds to the shared loop, and what it must remember over a resume; this one adds nothing."""

    def stream(self, prompts: Sequence[Prompt], seed: int) -> Stream:
        """The order in which prompts are trained on: each once per episode, shuffled."""
        from openrlhf_ext.rollout.prompts import PromptStream

        return PromptStream(list(prompts), seed)

    def start_workers(self, start: Callable[[str, type], object], strategy: object) -> list:
        """Start groups of the method's own workers by ``start(group of the plan, class)``; what to wait for until they are up."""
        return []

    def configure(self, maker: object) -> None:
        """Give the experience maker the method's settings."""

    def observe(self, rollout: Rollout) -> None:
        """Hear the graded samples of a step, before any model has seen them."""

    def metrics(self, rollout: Rollout) -> dict[str, float]:
        """The method's own columns of the step's metrics row."""
        return {}

    def state_dict(self) -> dict:
        """Plain values for the checkpoint; the stream's position is kept beside it."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Take up what :meth:`state_dict` gave."""


@dataclass(frozen=True)
class Recipe:
    """The composition of a method.

    ``program``: upstream program whose flags the config is rendered to (ppo, sft, rm, dpo).
    ``kind``: ``rollout`` = our trainer with engines; ``offline`` = our trainer on stored trajectories; ``program`` = upstream's own
    program on a placement group.
    ``maker``: import path ``module:Class`` of the experience maker (rollout methods).
    ``method``: what the method adds to the loop, made from the request and its plan (rollout methods).
    ``substitutions``: names that an upstream program sees replaced, as import paths (program methods).
    ``names``: more of them, where they depend on the request.
    ``tell_workers``: puts what our classes in the program read beside its arguments, which every rank is given (program methods).
    """

    name: str
    program: str
    kind: str
    maker: str | None = None
    method: Callable[[Resolved, Plan], RolloutMethod] = field(default=lambda resolved, plan: RolloutMethod())
    substitutions: dict[str, str] = field(default_factory=dict)
    names: Callable[[Resolved], dict[str, str]] = field(default=lambda resolved: {})
    tell_workers: Callable[[Resolved, argparse.Namespace], None] = field(default=lambda resolved, args: None)
