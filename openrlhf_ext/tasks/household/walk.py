"""Walks that solve a generated problem: the shortest one, which knows where everything lies, and one that searches as a newcomer must."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from openrlhf_ext.tasks.household.problem import HouseholdProblem
from openrlhf_ext.tasks.household.toy import PUT
from openrlhf_ext.tasks.household.world import CLEANER, COOLER, HEATER, LAMP, is_openable, kind

TREATMENT = {
    "pick_clean_then_place_in_recep": ("clean", CLEANER),
    "pick_heat_then_place_in_recep": ("heat", HEATER),
    "pick_cool_then_place_in_recep": ("cool", COOLER),
}


def oracle_walk(problem: HouseholdProblem) -> list[str]:
    """The actions that win, with every place known beforehand."""
    return _Walker(problem, search=()).actions()


def searching_walk(problem: HouseholdProblem) -> list[str]:
    """The actions of someone who looks into one receptacle after the other, in the order of the first observation, until all is found."""
    order = sorted(problem.receptacles, key=lambda name: (kind(name), -int(name.rpartition(" ")[2])))
    return _Walker(problem, search=order).actions()


class _Walker:
    """Plans one walk. `search`: receptacles to look through; empty = places are known."""

    def __init__(self, problem: HouseholdProblem, search: Sequence[str]) -> None:
        self.problem, self.search = problem, search
        self.inside = {name: list(things) for name, things in problem.receptacles.items()}
        self.opened: set[str] = set()
        self.looked: set[str] = set()
        self.at: str | None = None

    def actions(self) -> list[str]:
        return list(self._walk())

    def _walk(self) -> Iterator[str]:
        problem = self.problem
        if problem.task_type == "look_at_obj_in_light":
            yield from self._fetch(problem.thing, "")
            _, where = problem.where(LAMP)[0]
            if self.search:
                yield from self._look_for(LAMP, "")
            yield from self._visit(where)
            yield f"use {problem.where(LAMP)[0][0]}"
            return
        target = next(name for name in problem.receptacles if kind(name) == problem.target)
        lying = sum(kind(thing) == problem.thing for thing in self.inside[target])
        for _ in range(problem.wanted - lying if problem.wanted > 1 else 1):
            thing = yield from self._fetch(problem.thing, target if problem.wanted > 1 else "")
            if problem.task_type in TREATMENT:
                verb, place = TREATMENT[problem.task_type]
                where = next(name for name in problem.receptacles if kind(name) == place)
                yield from self._go(where)
                yield f"{verb} {thing} with {where}"
            yield from self._visit(target)
            self.inside[target].append(thing)
            yield PUT[problem.grammar].format(o=thing, r=target)

    def _fetch(self, wanted: str, leave: str) -> Generator[str, None, str]:
        """Finds and takes an object of a kind that does not lie in `leave`; returns its name."""
        if self.search:
            yield from self._look_for(wanted, leave)
        thing, where = next(
            (t, r) for r, things in self.inside.items() for t in things if kind(t) == wanted and r != leave
            and (not self.search or r in self.looked)
        )  # fmt: skip
        yield from self._visit(where)
        self.inside[where].remove(thing)
        yield f"take {thing} from {where}"
        return thing

    def _look_for(self, wanted: str, leave: str) -> Iterator[str]:
        """Visits receptacles until an object of the kind has been seen outside `leave`."""
        for name in self.search:
            if any(kind(t) == wanted for r in self.looked if r != leave for t in self.inside[r]):
                return
            if name not in self.looked:
                yield from self._visit(name)

    def _visit(self, receptacle: str) -> Iterator[str]:
        """Goes there and opens it if it has a door."""
        yield from self._go(receptacle)
        if is_openable(receptacle) and receptacle not in self.opened:
            self.opened.add(receptacle)
            yield f"open {receptacle}"
        self.looked.add(receptacle)

    def _go(self, receptacle: str) -> Iterator[str]:
        if self.at != receptacle:
            self.at = receptacle
            yield f"go to {receptacle}"
