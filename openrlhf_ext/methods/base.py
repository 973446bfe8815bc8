"""What a method is, as a value: which upstream program it stands on and which classes of ours take part."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recipe:
    """The composition of a method.

    ``program``: upstream program whose flags the config is rendered to (ppo, sft, rm, dpo).
    ``kind``: ``rollout`` = our trainer with engines; ``program`` = upstream's own program on a placement group.
    ``maker``: import path ``module:Class`` of the experience maker (rollout methods).
    ``substitutions``: names that an upstream program sees replaced, as import paths (program methods).
    """

    name: str
    program: str
    kind: str
    maker: str | None = None
    substitutions: dict[str, str] = field(default_factory=dict)
