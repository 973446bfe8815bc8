"""A generated household problem: what stands and lies where, and what is asked. Labels hold it as JSON.

{"problem": {"task_type": "pick_heat_then_place_in_recep", "object": "mug", "target": "shelf", "wording": 0, "grammar": "put",
             "receptacles": {"cabinet 1": ["mug 1"], "microwave 1": [], "shelf 1": ["book 1"]}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openrlhf_ext.tasks.household.world import LAMP, ROOMS, kind

GRAMMARS = ("put", "move")
"""How things are put down: "put mug 1 in/on shelf 1" (released games), "move mug 1 to shelf 1" (alfworld 0.4)."""

GOALS: dict[str, tuple[str, str]] = {
    "pick_and_place_simple": ("put a {object} in {target}.", "put some {object} on {target}."),
    "pick_clean_then_place_in_recep": ("put a clean {object} in {target}.", "clean some {object} and put it in {target}."),
    "pick_heat_then_place_in_recep": ("put a hot {object} in {target}.", "heat some {object} and put it in {target}."),
    "pick_cool_then_place_in_recep": ("put a cool {object} in {target}.", "cool some {object} and put it in {target}."),
    "look_at_obj_in_light": ("look at {object} under the desklamp.", "examine the {object} with the desklamp."),
    "pick_two_obj_and_place": ("put two {object} in {target}.", "find two {object} and put them in {target}."),
}  # fmt: skip
"""Task type -> the two wordings of its goal."""


@dataclass(frozen=True)
class HouseholdProblem:
    """`receptacles`: name -> names of what lies in or on it, e.g. "cabinet 1" -> ("mug 1",); `thing`: the kind of object that is asked for; `target`: the kind of receptacle, "" for the lamp."""

    task_type: str
    thing: str
    target: str
    receptacles: dict[str, tuple[str, ...]]
    wording: int = 0
    grammar: str = "put"

    @property
    def goal(self) -> str:
        """The sentence after "Your task is to: "."""
        return GOALS[self.task_type][self.wording].format(object=self.thing, target=self.target)

    @property
    def wanted(self) -> int:
        """How many objects are asked for."""
        return 2 if self.task_type == "pick_two_obj_and_place" else 1

    def where(self, object_kind: str) -> list[tuple[str, str]]:
        """(object, receptacle) of every object of a kind, in the order of the receptacles."""
        return [(o, r) for r, things in self.receptacles.items() for o in things if kind(o) == object_kind]

    def to_json(self) -> dict[str, object]:
        return {
            "task_type": self.task_type,
            "object": self.thing,
            "target": self.target,
            "wording": self.wording,
            "grammar": self.grammar,
            "receptacles": {name: list(things) for name, things in self.receptacles.items()},
        }


def problem_from_json(fields: object) -> HouseholdProblem:
    """The problem of a label. Raises ValueError with everything that is wrong with it."""
    if not isinstance(fields, Mapping):
        raise ValueError(f"problem: expected an object, found {type(fields).__name__}")
    faults = list(_faults(fields))
    if faults:
        raise ValueError("; ".join(faults))
    return HouseholdProblem(
        task_type=fields["task_type"],
        thing=fields["object"],
        target=fields["target"],
        receptacles={name: tuple(things) for name, things in fields["receptacles"].items()},
        wording=fields.get("wording", 0),
        grammar=fields.get("grammar", "put"),
    )


def _faults(fields: Mapping[str, object]) -> list[str]:
    found = []
    task_type = fields.get("task_type")
    if task_type not in ROOMS:
        found.append(f"problem.task_type: {task_type!r} is none of {', '.join(ROOMS)}")
    found += [
        f"problem.{key}: expected text, found {fields.get(key)!r}"
        for key in ("object", "target")
        if not isinstance(fields.get(key), str)
    ]
    if fields.get("wording", 0) not in (0, 1):
        found.append(f"problem.wording: {fields.get('wording')!r} is neither 0 nor 1")
    if fields.get("grammar", "put") not in GRAMMARS:
        found.append(f"problem.grammar: {fields.get('grammar')!r} is none of {', '.join(GRAMMARS)}")
    places = fields.get("receptacles")
    if not isinstance(places, Mapping) or not all(
        isinstance(name, str) and isinstance(things, (list, tuple)) and all(isinstance(t, str) for t in things)
        for name, things in places.items()
    ):
        return [*found, "problem.receptacles: expected an object of name -> list of names"]
    return found or _missing(fields, places)


def _missing(fields: Mapping[str, object], places: Mapping[str, list[str]]) -> list[str]:
    """What the goal needs and the household lacks."""
    things = [thing for inside in places.values() for thing in inside]
    found = [
        f"problem.receptacles: {thing!r} lies in two places"
        for thing in sorted({t for t in things if things.count(t) > 1})
    ]
    lamp = fields["task_type"] == "look_at_obj_in_light"
    wanted = 2 if fields["task_type"] == "pick_two_obj_and_place" else 1
    present = sum(kind(thing) == fields["object"] for thing in things)
    if present < wanted:
        found.append(f"problem.receptacles: the goal needs {wanted} x {fields['object']!r}, found {present}")
    if lamp and not any(kind(thing) == LAMP for thing in things):
        found.append(f"problem.receptacles: the goal needs a {LAMP}")
    if not lamp and not any(kind(name) == fields["target"] for name in places):
        found.append(f"problem.receptacles: the goal needs a {fields['target']!r}")
    return found
