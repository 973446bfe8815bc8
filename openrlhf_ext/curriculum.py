"""Which stage the next start states come from: pure objects of a few numbers, whose state belongs in the checkpoint.

Stage 0 is the bare question, stage M - 1 the start state nearest the end of the demonstration (data/reverse.py). A schedule answers `take`
and hears `observe`. Mixed and plain training need none: they shuffle all rows, or those of stage 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

State = dict[str, list[float]]


class Schedule(Protocol):
    """What decides the stage of every start state."""

    @property
    def stages(self) -> int:
        """M; stages are numbered from 0."""
        ...

    def take(self, count: int) -> list[int]:
        """The stages of the next ``count`` start states; moves on."""
        ...

    def observe(self, stage: int, correct: int, count: int) -> None:
        """``correct`` of ``count`` samples from start states of ``stage`` were right."""
        ...

    def metrics(self) -> dict[str, float]:
        """Where the schedule stands."""
        ...

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: State) -> None: ...


class Staged:
    """One stage after the other, from the end of the demonstration back to the question; ``budgets[i]`` start states of stage i.

    The last stage, 0, goes on for as long as it is asked: it is ordinary outcome RL. A batch may cross a border, so budgets are exact.
    """

    def __init__(self, budgets: Sequence[int]) -> None:
        if not budgets or min(budgets) < 0:
            raise ValueError(f"budgets={list(budgets)}: give a number of start states, 0 or more, for each stage")
        self.budgets = list(budgets)
        self.taken = 0

    @property
    def stages(self) -> int:
        return len(self.budgets)

    def take(self, count: int) -> list[int]:
        taken = [self.stage_at(self.taken + ahead) for ahead in range(count)]
        self.taken += count
        return taken

    def stage_at(self, position: int) -> int:
        """The stage of the start state number ``position``, counted from 0."""
        for stage in range(self.stages - 1, 0, -1):
            position -= self.budgets[stage]
            if position < 0:
                return stage
        return 0

    def observe(self, stage: int, correct: int, count: int) -> None:
        """Fixed budgets do not depend on success."""

    def metrics(self) -> dict[str, float]:
        """The stage that the next start state comes from."""
        return {"stage": float(self.stage_at(self.taken))}

    def state_dict(self) -> State:
        return {"budgets": [float(budget) for budget in self.budgets], "taken": [float(self.taken)]}

    def load_state_dict(self, state: State) -> None:
        if state["budgets"] != self.budgets:
            raise ValueError(
                f"the checkpoint was written with stage budgets {state['budgets']}, this run has {self.budgets}: resume with the same"
            )
        self.taken = int(state["taken"][0])


class Adaptive:
    """The share of each stage follows its measured success p_i (beyond the paper).

        share_i = floor / M + (1 - floor) * p_i (1 - p_i) / sum_j p_j (1 - p_j)

    p (1 - p) is the variance of a 0/1 reward, so start states that always or never succeed, which teach nothing, give way to those in
    between; ``floor`` of all start states is spread evenly, so that every stage, the bare question first of all, stays in training and
    keeps being measured. p_i is an average over about the last ``memory`` samples of the stage and starts at 1/2: the first batch is mixed.
    """

    def __init__(self, stages: int, floor: float = 0.25, memory: float = 64.0) -> None:
        if stages < 1 or not 0 < floor <= 1 or memory < 1:
            raise ValueError(
                f"stages={stages}, floor={floor}, memory={memory}: give at least 1 stage, 0 < floor <= 1, memory of at least 1 sample"
            )
        self.floor, self.memory = floor, memory
        self.success = [0.5] * stages
        self.owed = [0.0] * stages

    @property
    def stages(self) -> int:
        return len(self.success)

    def shares(self) -> list[float]:
        """The share of each stage in the next start states; they sum to 1."""
        spread = [p * (1 - p) for p in self.success]
        total = math.fsum(spread)
        even = 1 / self.stages
        return [self.floor * even + (1 - self.floor) * (one / total if total > 0 else even) for one in spread]

    def take(self, count: int) -> list[int]:
        """Stages in their shares without chance: each start state goes to the stage that is owed most, the harder one in a tie."""
        shares, taken = self.shares(), []
        for _ in range(count):
            self.owed = [owed + share for owed, share in zip(self.owed, shares, strict=True)]
            stage = max(range(self.stages), key=lambda i: (round(self.owed[i], 9), -i))
            self.owed[stage] -= 1
            taken.append(stage)
        return taken

    def observe(self, stage: int, correct: int, count: int) -> None:
        """p <- a^n p + (1 - a^n) correct / n with a = 1 - 1 / memory: n samples count the same in one batch or in several equal ones."""
        if not 0 <= correct <= count:
            raise ValueError(f"stage {stage}: {correct} of {count} samples cannot be right")
        if count:
            kept = (1 - 1 / self.memory) ** count
            self.success[stage] = kept * self.success[stage] + (1 - kept) * correct / count

    def metrics(self) -> dict[str, float]:
        """Measured success and share of every stage."""
        shares = self.shares()
        return {
            f"stage_{i}/{name}": value
            for name, of in (("success", self.success), ("share", shares))
            for i, value in enumerate(of)
        }

    def state_dict(self) -> State:
        return {"success": list(self.success), "owed": list(self.owed)}

    def load_state_dict(self, state: State) -> None:
        if len(state["success"]) != self.stages:
            raise ValueError(
                f"the checkpoint has {len(state['success'])} stages, this run {self.stages}: resume with the same data"
            )
        self.success, self.owed = list(state["success"]), list(state["owed"])


def equal_budgets(total: int, stages: int) -> list[int]:
    """``total`` start states shared evenly among the stages; what does not divide goes to stage 0, the question itself."""
    if stages < 1 or total < stages:
        raise ValueError(f"{total} start states cannot be shared among {stages} stages: give at least one each")
    each = total // stages
    return [total - (stages - 1) * each] + [each] * (stages - 1)
