"""The prompt stream of the reverse curriculum: start states whose stage a schedule chooses, and what each stage earned.

Every stage has its own endless seeded order, so within a stage no start state comes twice before all of it were used.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from openrlhf_ext.curriculum import Adaptive, Schedule, Staged
from openrlhf_ext.rollout.prompts import Prompt, PromptStream, Stream

MODES = ("mixed", "staged", "plain", "adaptive")

_STAGE = re.compile(r"stage_([0-9]+)", re.ASCII)


def stage_number(datasource: object) -> int | None:
    """The stage in a ``datasource`` as `prepare reverse-curriculum` writes it; None for any other value."""
    found = _STAGE.fullmatch(datasource) if isinstance(datasource, str) else None
    return int(found[1]) if found else None


def stage_of(prompt: Prompt) -> int:
    """The stage of a prompt. Raises ValueError where its ``datasource`` names none."""
    stage = stage_number(prompt.datasource)
    if stage is None:
        raise ValueError(
            f"row {prompt.problem_id} has datasource {prompt.datasource!r}, not stage_0, stage_1, ...: "
            "the reverse curriculum trains on rows of `prepare reverse-curriculum`"
        )
    return stage


def stages_of(prompts: Iterable[Prompt]) -> dict[int, int]:
    """Problem id -> stage, for `observe` and `stage_metrics`."""
    return {prompt.problem_id: stage_of(prompt) for prompt in prompts}


def by_stage(prompts: Iterable[Prompt]) -> list[list[Prompt]]:
    """Prompts of stage 0, 1, ... Raises ValueError where a stage has none."""
    pools: dict[int, list[Prompt]] = {}
    for prompt in prompts:
        pools.setdefault(stage_of(prompt), []).append(prompt)
    missing = [stage for stage in range(max(pools, default=0) + 1) if stage not in pools]
    if missing:
        raise ValueError(
            f"no start states of stage {missing[0]} among the stages {sorted(pools)}: prepare with --mode mixed"
        )
    return [pools[stage] for stage in range(len(pools))]


class StageStream:
    """Endless prompts in the stages that the schedule names; has the interface of a ``PromptStream``."""

    def __init__(self, prompts: Sequence[Prompt], schedule: Schedule, seed: int, shuffle: bool = True) -> None:
        pools = by_stage(prompts)
        if schedule.stages != len(pools):
            raise ValueError(f"the schedule has {schedule.stages} stages, the data {len(pools)}: make them equal")
        self.schedule = schedule
        self.pools = [PromptStream(pool, seed * 1009 + stage, shuffle) for stage, pool in enumerate(pools)]

    def __len__(self) -> int:
        return sum(len(pool) for pool in self.pools)

    def take(self, count: int) -> list[Prompt]:
        """The next ``count`` prompts; moves the schedule and the stages it names."""
        stages = self.schedule.take(count)
        ready = {stage: iter(self.pools[stage].take(wanted)) for stage, wanted in Counter(stages).items()}
        return [next(ready[stage]) for stage in stages]

    def state_dict(self) -> dict:
        return {"schedule": self.schedule.state_dict(), "pools": [pool.state_dict() for pool in self.pools]}

    def load_state_dict(self, state: dict) -> None:
        if len(state["pools"]) != len(self.pools):
            raise ValueError(
                f"the checkpoint has {len(state['pools'])} stages, this run {len(self.pools)}: resume with the same data"
            )
        for pool, saved in zip(self.pools, state["pools"], strict=True):
            pool.load_state_dict(saved)
        self.schedule.load_state_dict(state["schedule"])


def make_stream(
    mode: str,
    prompts: Sequence[Prompt],
    seed: int,
    *,
    budgets: Sequence[int] | None = None,
    floor: float = 0.25,
    memory: float = 64.0,
) -> Stream:
    """The stream of a mode. ``budgets`` (staged): start states per stage, one pass over each stage by default.

    mixed shuffles the rows of all stages together; plain keeps stage 0, the questions themselves.
    """
    pools = by_stage(prompts)
    if mode == "mixed":
        return PromptStream(list(prompts), seed)
    if mode == "plain":
        return PromptStream(pools[0], seed)
    if mode == "staged":
        return StageStream(prompts, Staged(budgets or [len(pool) for pool in pools]), seed)
    if mode == "adaptive":
        return StageStream(prompts, Adaptive(len(pools), floor, memory), seed)
    raise ValueError(f"mode {mode!r}: choose one of {', '.join(MODES)}")


def observe(schedule: Schedule, rows: Iterable[Mapping], stages: Mapping[int, int]) -> None:
    """Tell the schedule what the trajectories of a step earned; ``stages``: problem id -> stage. Correctness counts, not reward."""
    correct, count = Counter[int](), Counter[int]()
    for row in rows:
        stage = stages[int(row["problem_id"])]
        count[stage] += 1
        correct[stage] += row["scores"] >= 1
    for stage in sorted(count):
        schedule.observe(stage, correct[stage], count[stage])


def stage_metrics(rows: Iterable[Mapping], stages: Mapping[int, int]) -> dict[str, float]:
    """Per stage of a step's trajectories: samples, share right, mean reward, mean length in tokens, shares truncated and empty.

    An empty response has at most its end token.
    """
    groups: dict[int, list[Mapping]] = {}
    for row in rows:
        groups.setdefault(stages[int(row["problem_id"])], []).append(row)
    metrics: dict[str, float] = {}
    for stage, group in sorted(groups.items()):
        lengths = [sum(end - start for start, end in row["action_ranges"]) for row in group]
        values = {
            "samples": float(len(group)),
            "correct": sum(row["scores"] >= 1 for row in group) / len(group),
            "reward": sum(row["reward"] for row in group) / len(group),
            "response_length": sum(lengths) / len(group),
            "truncated_rate": sum(bool(row["truncated"]) for row in group) / len(group),
            "empty_rate": sum(length <= 1 for length in lengths) / len(group),
        }
        metrics |= {f"rollout/stage_{stage}/{name}": value for name, value in values.items()}
    return metrics
