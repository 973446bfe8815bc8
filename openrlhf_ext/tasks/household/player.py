"""A scripted player: reads the goal, looks into one receptacle after the other, and uses only commands that the game offers.

It plays generated and released games alike, whichever way they put things down, and so tries out a game without a model. A baseline, no oracle.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from openrlhf_ext.tasks.environment import Episode
from openrlhf_ext.tasks.household.world import CLEANER, COOLER, HEATER, kind

_GOALS = (
    (r"(?:put|find) two (\w+)(?: and put them)? (?:in|on) (\w+)", "two"),
    (r"(?:look at|examine) (?:the )?(\w+) (?:under|with) the (\w+)", "look"),
    (r"(?:put a )?(clean|hot|heat|cool) (?:some )?(\w+)(?: and put it)? (?:in|on) (\w+)", "treat"),
    (r"put (?:a|some) (\w+) (?:in|on) (\w+)", "place"),
)
_TREATMENT = {
    "clean": ("clean", CLEANER),
    "hot": ("heat", HEATER),
    "heat": ("heat", HEATER),
    "cool": ("cool", COOLER),
}


@dataclass(frozen=True)
class Goal:
    """`treatment`: (verb, kind of receptacle), or None; `light`: `target` is a lamp to be used."""

    thing: str
    target: str
    count: int = 1
    treatment: tuple[str, str] | None = None
    light: bool = False


def read_goal(observation: str) -> Goal:
    """The goal of a first observation. Raises ValueError for a sentence of another form."""
    sentence = observation.rpartition("Your task is to: ")[2].strip()
    for pattern, form in _GOALS:
        found = re.match(pattern, sentence)
        if found and form == "treat":
            return Goal(found[2], found[3], treatment=_TREATMENT[found[1]])
        if found:
            return Goal(found[1], found[2], count=2 if form == "two" else 1, light=form == "look")
    raise ValueError(f"no goal is known that reads {sentence!r}")


class Player:
    """One player for one game."""

    def __init__(self, first: str) -> None:
        """`first`: the first observation."""
        self.goal = read_goal(first)
        room = first.partition("you see ")[2].partition("\n")[0]
        self.places = re.findall(r"an? ([a-z]+ \d+)", room)
        self.unseen = list(self.places)
        self.where: dict[str, str] = {}  # object -> receptacle, as read
        self.at = ""
        self.held = ""
        self.treated = False
        self.home = ""  # where the first of two was put

    def act(self, admissible: Sequence[str]) -> str:
        """The next command, one of those offered."""
        command = self._with_thing(admissible) if self.held else self._without_thing(admissible)
        return command if command in admissible else "look"

    def saw(self, command: str, observation: str) -> None:
        """What the game answered to the last command."""
        if observation.startswith("Nothing happens"):
            return
        verb, rest = command.split(" ")[0], command.partition(" ")[2]
        if verb == "go":
            self.at = rest.removeprefix("to ")
            if not observation.endswith(" is closed."):
                self._looked(observation)
        elif verb == "open":
            self._looked(observation)
        elif verb == "take":
            self.held, self.treated = rest.partition(" from ")[0], False
            self.where.pop(self.held, None)
        elif verb in ("clean", "heat", "cool"):
            self.treated = True
        elif verb in ("put", "move"):
            self.held, self.home = "", self.at

    def _looked(self, observation: str) -> None:
        self.unseen = [place for place in self.unseen if place != self.at]
        inside = re.findall(r"an? ([a-z]+ \d+)", observation.rpartition("you see ")[2])
        self.where = {o: r for o, r in self.where.items() if r != self.at} | dict.fromkeys(inside, self.at)

    def _without_thing(self, admissible: Sequence[str]) -> str:
        takes = [c for c in admissible if re.fullmatch(rf"take {self.goal.thing} \d+ from .*", c)]
        if takes and self.at != self.home:
            return takes[0]
        known = [r for o, r in self.where.items() if kind(o) == self.goal.thing and r != self.home]
        return self._reach(known, admissible)

    def _with_thing(self, admissible: Sequence[str]) -> str:
        goal = self.goal
        if goal.treatment and not self.treated:
            verb, place = goal.treatment
            treat = [c for c in admissible if c.startswith(f"{verb} {self.held} with ")]
            return treat[0] if treat else self._reach([p for p in self.places if kind(p) == place], admissible)
        if goal.light:
            use = [c for c in admissible if c.startswith(f"use {goal.target} ")]
            return (
                use[0] if use else self._reach([r for o, r in self.where.items() if kind(o) == goal.target], admissible)
            )
        if kind(self.at) == goal.target:
            down = [c for c in admissible if re.match(rf"(put|move) {self.held} ", c)]
            return down[0] if down else f"open {self.at}"
        targets = [self.home] if self.home else [p for p in self.places if kind(p) == goal.target]
        return f"go to {targets[0]}" if targets else "look"

    def _reach(self, known: Sequence[str], admissible: Sequence[str]) -> str:
        """Opens what is here and was not looked into, goes to a place that is known, else to the next one not seen."""
        if f"open {self.at}" in admissible and self.at in {*self.unseen, *known}:
            return f"open {self.at}"
        goals = [place for place in (*known, *self.unseen) if place != self.at]
        return f"go to {goals[0]}" if goals else "look"


def play_scripted(episode: Episode) -> Episode:
    """Plays a game to its end; the environment must offer its commands. Returns the episode."""
    first = episode.start()
    player = Player(first)
    while not episode.done:
        command = player.act(episode.environment.admissible())
        player.saw(command, episode.play(command))
    return episode
