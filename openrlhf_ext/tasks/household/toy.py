"""The household without any dependency: the rules and the words of ALFWorld's games for what `problem.py` can describe.

A step is looked up among the commands that the game offers at that moment; nothing else is understood. Rules and texts are compared with
the real engine on the same problems in tests/unit/tasks/test_household_engine.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from openrlhf_ext.tasks.environment import Info
from openrlhf_ext.tasks.household.problem import HouseholdProblem
from openrlhf_ext.tasks.household.world import (
    CLEANABLE,
    CLEANER,
    COOLABLE,
    COOLER,
    HEATABLE,
    HEATER,
    LAMP,
    is_openable,
    kind,
)

NOTHING = "Nothing happens."
PUT = {"put": "put {o} in/on {r}", "move": "move {o} to {r}"}
DONE = {"put": "You put the {o} in/on the {r}.", "move": "You move the {o} to the {r}."}
TEMPLATES = (
    "go to {r}", "open {r}", "close {r}", "take {o} from {r}", "{put}", "clean {o} with {r}", "heat {o} with {r}",
    "cool {o} with {r}", "use {o}", "examine {r}", "examine {o}", "inventory", "look",
)  # fmt: skip
Commands = dict[str, Callable[[], str]]


class ToyHousehold:
    """One game; see tasks/environment.py. Deterministic: the same actions lead to the same texts."""

    def __init__(self) -> None:
        self.problem: HouseholdProblem

    def reset(self, problem: HouseholdProblem) -> str:
        self.problem = problem
        self.inside = {name: set(things) for name, things in problem.receptacles.items()}
        self.opened: set[str] = set()
        self.at: str | None = None
        self.held: str | None = None
        self.clean: set[str] = set()
        self.hot: set[str] = set()
        self.cool: set[str] = set()
        self.lit: set[str] = set()
        return f"You are in the middle of a room. Looking quickly around you, you see {listing(self.inside)}.\n\nYour task is to: {problem.goal}"

    @property
    def templates(self) -> tuple[str, ...]:
        """The forms of this game's commands."""
        return tuple(text.format(put=PUT[self.problem.grammar], o="{o}", r="{r}") for text in TEMPLATES)

    def step(self, action: str) -> tuple[str, float, bool, Info]:
        command = self._commands().get(action.strip())
        observation = command() if command else NOTHING
        won = self._won()
        info: Info = {"admissible": self.admissible(), "won": won, "valid": command is not None}
        return observation, float(won), won, info

    def admissible(self) -> list[str]:
        """Every command that the game accepts now, in alphabetical order."""
        return sorted(self._commands())

    def close(self) -> None:
        """Nothing is held."""

    def _commands(self) -> Commands:
        found: Commands = {"look": self._look, "inventory": self._inventory}
        for name in self.inside.keys() - {self.at}:
            found[f"go to {name}"] = lambda name=name: self._go(name)  # type: ignore[misc]
        here = self.at
        if here is None:
            return found | self._with_hands(None)
        found[f"examine {here}"] = lambda: self._contents(here)
        if is_openable(here):
            verb, run = ("close", self._close) if here in self.opened else ("open", self._open)
            found[f"{verb} {here}"] = run
        if self._reachable(here):
            for thing in self.inside[here]:
                if kind(thing) == LAMP:
                    found[f"use {thing}"] = lambda thing=thing: self._use(thing)  # type: ignore[misc]
                elif self.held is None:
                    found[f"take {thing} from {here}"] = lambda thing=thing: self._take(thing, here)  # type: ignore[misc]
        return found | self._with_hands(here)

    def _with_hands(self, here: str | None) -> Commands:
        """What can be done with the thing that is held."""
        held = self.held
        if held is None:
            return {}
        found: Commands = {f"examine {held}": lambda: self._state(held)}
        if here is None:
            return found
        if self._reachable(here):
            found[PUT[self.problem.grammar].format(o=held, r=here)] = lambda: self._put(held, here)
        if kind(here) == CLEANER and kind(held) in CLEANABLE:
            found[f"clean {held} with {here}"] = lambda: self._treat(held, here, "clean")
        if kind(here) == HEATER and kind(held) in HEATABLE:
            found[f"heat {held} with {here}"] = lambda: self._treat(held, here, "heat")
        if kind(here) == COOLER and kind(held) in COOLABLE:
            found[f"cool {held} with {here}"] = lambda: self._treat(held, here, "cool")
        return found

    def _reachable(self, receptacle: str) -> bool:
        return not is_openable(receptacle) or receptacle in self.opened

    def _go(self, receptacle: str) -> str:
        self.at = receptacle
        return self._contents(receptacle)

    def _open(self) -> str:
        receptacle = str(self.at)
        self.opened.add(receptacle)
        return f"You open the {receptacle}. {self._contents(receptacle)}"

    def _close(self) -> str:
        self.opened.discard(str(self.at))
        return f"You close the {self.at}."

    def _take(self, thing: str, receptacle: str) -> str:
        self.inside[receptacle].discard(thing)
        self.held = thing
        return f"You pick up the {thing} from the {receptacle}."

    def _put(self, thing: str, receptacle: str) -> str:
        self.inside[receptacle].add(thing)
        self.held = None
        return DONE[self.problem.grammar].format(o=thing, r=receptacle)

    def _treat(self, thing: str, receptacle: str, verb: str) -> str:
        {"clean": self.clean, "heat": self.hot, "cool": self.cool}[verb].add(thing)
        if verb != "clean":
            (self.cool if verb == "heat" else self.hot).discard(thing)
        return f"You {verb} the {thing} using the {receptacle}."

    def _use(self, lamp: str) -> str:
        self.lit.add(lamp)
        return f"You turn on the {lamp}."

    def _look(self) -> str:
        if self.at is not None:
            return f"You are facing the {self.at}. Next to it, you see nothing."
        return "You are in the middle of a room. Looking quickly around you, you see nothing."  # as the engine says

    def _inventory(self) -> str:
        return f"You are carrying: a {self.held}." if self.held else "You are not carrying anything."

    def _contents(self, receptacle: str) -> str:
        inside = listing(self.inside[receptacle])
        if not is_openable(receptacle):
            return f"On the {receptacle}, you see {inside}."
        if receptacle not in self.opened:
            return f"The {receptacle} is closed."
        return f"The {receptacle} is open. In it, you see {inside}."

    def _state(self, thing: str) -> str:
        warmth = "hot" if thing in self.hot else "cool" if thing in self.cool else ""
        if warmth and thing in self.clean:
            return f"This is a {warmth} and clean {thing}."
        if thing in self.clean:
            return f"This is a clean {thing}."
        if warmth:
            return f"This is a {'hot' if warmth == 'hot' else 'cold'} {thing}."
        if kind(thing) == LAMP:
            return f"This {thing} is {'on' if thing in self.lit else 'off'}."
        return f"There's nothing special about {thing}."

    def _won(self) -> bool:
        problem = self.problem
        if problem.task_type == "look_at_obj_in_light":
            light = self.at is not None and any(lamp in self.lit for lamp in self.inside[self.at])
            return light and self.held is not None and kind(self.held) == problem.thing
        treated = {
            "pick_clean_then_place_in_recep": self.clean,
            "pick_heat_then_place_in_recep": self.hot,
            "pick_cool_then_place_in_recep": self.cool,
        }.get(problem.task_type)
        for name, things in self.inside.items():
            fitting = [t for t in things if kind(t) == problem.thing and (treated is None or t in treated)]
            if kind(name) == problem.target and len(fitting) >= problem.wanted:
                return True
        return False


def listing(names: Iterable[str]) -> str:
    """ "a mug 2, a mug 1, and a pen 1": by kind, then by falling number; "nothing" for none."""
    ordered = sorted(names, key=lambda name: (kind(name), -int(name.rpartition(" ")[2])))
    items = [f"a {name}" for name in ordered]
    if len(items) < 2:
        return items[0] if items else "nothing"
    return f"{', '.join(items[:-1])}, and {items[-1]}"
