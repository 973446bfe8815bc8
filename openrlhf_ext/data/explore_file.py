"""Explore's output, one file: a row of settings, the solutions, then a row per prefix and round as they were explored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_ext.data.explore import Budget, Walk, WrongSolution, walks_of
from openrlhf_ext.data.samples import objects
from openrlhf_ext.tasks.rows import skipped


@dataclass(frozen=True)
class Explored:
    """What a file holds. `torn`: lines that were no JSON, as `file:line`."""

    budget: Budget
    walks: list[Walk]
    torn: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)

    def notes(self) -> list[str]:
        return skipped(self.torn)


def head_rows(
    settings: Mapping[str, object], budget: Budget, solutions: Sequence[WrongSolution]
) -> list[dict[str, object]]:
    """The rows before the first step: they say all that the steps refer to."""
    limits = {"k": budget.k, "confirm": budget.confirm, "steps_cap": budget.steps_cap}
    return [{"kind": "explore", **limits, **settings}, *(solution.row() for solution in solutions)]


def read_explored(path: Path) -> Explored:
    """Raises ValueError for a file that explore did not write, or whose rows do not follow from each other."""
    path = Path(path)
    rows: list[Mapping[str, object]] = []
    torn: list[str] = []
    for number, row in objects(path):
        if row is None:
            torn.append(f"{path}:{number}")
        else:
            rows.append(row)
    if not rows or rows[0].get("kind") != "explore":
        raise ValueError(f"{path}: no output of explore: its first row would be its settings")
    limits = [rows[0].get(name) for name in ("k", "confirm", "steps_cap")]
    if not all(isinstance(limit, int) for limit in limits):
        raise ValueError(f"{path}:1: k, confirm and steps_cap: expected whole numbers, found {limits}")
    budget = Budget(*(limit for limit in limits if isinstance(limit, int)))
    try:
        return Explored(budget, walks_of(rows[1:], budget), tuple(torn), rows[0])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error}; explore it again") from error
