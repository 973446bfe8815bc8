"""Generated household problems in three splits: train, seen (new problems in the rooms of train) and unseen (rooms with another furniture).

No problem is in two splits, and no furniture of an unseen room is that of a training room.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openrlhf_ext.tasks.household.problem import HouseholdProblem
from openrlhf_ext.tasks.household.world import (
    ABLE,
    FIXED,
    FURTHER,
    LAMP,
    PORTABLE,
    ROOMS,
    kind,
)

SPLITS = ("train", "seen", "unseen")
TASK_TYPES = tuple(ROOMS)


@dataclass(frozen=True)
class Shape:
    """How large generated households are: receptacles per room, portable objects per room, and which task types are asked."""

    receptacles: tuple[int, int] = (6, 8)
    objects: tuple[int, int] = (4, 7)
    task_types: tuple[str, ...] = TASK_TYPES
    grammar: str = "put"

    def __post_init__(self) -> None:
        least = max(len(FIXED[room]) for kind_ in self.task_types for room in ROOMS[kind_]) + 1
        if self.receptacles[0] < least:
            raise ValueError(f"receptacles={self.receptacles[0]}: these task types need rooms of at least {least}")
        if self.objects[0] < 3:
            raise ValueError(f"objects={self.objects[0]}: give 3 or more; two of them may be what is asked for")


@dataclass(frozen=True)
class Room:
    """A furnished room: its kind and the names of its receptacles."""

    kind: str
    receptacles: tuple[str, ...]


def generate(
    counts: Mapping[str, int], *, seed: int, rooms: int = 24, shape: Shape | None = None
) -> dict[str, list[HouseholdProblem]]:
    """`counts[split]` problems of every split. `rooms`: furnished rooms of train and seen; unseen has a quarter as many others.

    Raises ValueError where the shape does not allow that many different rooms or problems.
    """
    shape, rng = shape or Shape(), random.Random(seed)
    kinds = sorted({room for task_type in shape.task_types for room in ROOMS[task_type]})
    furnished = _rooms(rooms + max(len(kinds), rooms // 4), kinds, shape, rng)
    known, others = furnished[:rooms], furnished[rooms:]
    taken: set[HouseholdKey] = set()
    return {
        split: _problems(counts.get(split, 0), others if split == "unseen" else known, shape, rng, taken)
        for split in SPLITS
    }


HouseholdKey = tuple[str, str, str, tuple[tuple[str, tuple[str, ...]], ...]]


def key(problem: HouseholdProblem) -> HouseholdKey:
    """What makes two problems the same, the wording aside."""
    places = tuple((name, tuple(sorted(things))) for name, things in sorted(problem.receptacles.items()))
    return problem.task_type, problem.thing, problem.target, places


def _rooms(count: int, kinds: Sequence[str], shape: Shape, rng: random.Random) -> list[Room]:
    """Different rooms, the kinds in turn."""
    found: dict[tuple[str, tuple[str, ...]], Room] = {}
    tries = 0
    while len(found) < count:
        tries += 1
        if tries > 200 * count:
            raise ValueError(
                f"only {len(found)} different rooms of {shape.receptacles[0]} to {shape.receptacles[1]} receptacles came up, "
                f"{count} are needed: ask for fewer rooms or a wider range"
            )
        room_kind = kinds[len(found) % len(kinds)]
        size = rng.randint(*shape.receptacles)
        extra = rng.choices(FURTHER[room_kind], k=size - len(FIXED[room_kind]))
        names = _numbered(sorted([*FIXED[room_kind], *extra]))
        found.setdefault((room_kind, names), Room(room_kind, names))
    return list(found.values())


def _problems(
    count: int, rooms: Sequence[Room], shape: Shape, rng: random.Random, taken: set[HouseholdKey]
) -> list[HouseholdProblem]:
    found: list[HouseholdProblem] = []
    tries = 0
    while len(found) < count:
        tries += 1
        if tries > 200 * count:
            raise ValueError(f"only {len(found)} of {count} different problems came up: ask for fewer, or larger rooms")
        task_type = shape.task_types[len(found) % len(shape.task_types)]
        room = rng.choice([room for room in rooms if room.kind in ROOMS[task_type]])
        problem = _problem(task_type, room, shape, rng)
        if key(problem) not in taken:
            taken.add(key(problem))
            found.append(problem)
    return found


def _problem(task_type: str, room: Room, shape: Shape, rng: random.Random) -> HouseholdProblem:
    """One problem that is not solved from the start: nothing that is asked for lies where it shall go."""
    lamp = task_type == "look_at_obj_in_light"
    able = [word for word in PORTABLE[room.kind] if word in ABLE.get(task_type, PORTABLE[room.kind])]
    wanted = rng.choice(able)
    target = "" if lamp else rng.choice(sorted({kind(name) for name in room.receptacles}))
    needed = 2 if task_type == "pick_two_obj_and_place" else 1
    others = rng.choices([w for w in PORTABLE[room.kind] if w != wanted], k=rng.randint(*shape.objects) - needed)
    things = _numbered(sorted([wanted] * needed + others + ([LAMP] if lamp else [])))
    elsewhere = [name for name in room.receptacles if kind(name) != target]
    places: dict[str, list[str]] = {name: [] for name in room.receptacles}
    for thing in things:
        if kind(thing) == LAMP:
            where = rng.choice([name for name in room.receptacles if kind(name) in ("desk", "sidetable", "dresser")])
        else:
            where = rng.choice(elsewhere if kind(thing) == wanted else room.receptacles)
        places[where].append(thing)
    inside = {name: tuple(sorted(inside)) for name, inside in places.items()}
    return HouseholdProblem(task_type, wanted, target, inside, rng.randint(0, 1), shape.grammar)


def _numbered(words: Sequence[str]) -> tuple[str, ...]:
    """ "cabinet", "cabinet", "shelf" -> "cabinet 1", "cabinet 2", "shelf 1"."""
    counts: dict[str, int] = {}
    names = []
    for word in words:
        counts[word] = counts.get(word, 0) + 1
        names.append(f"{word} {counts[word]}")
    return tuple(names)
