"""A generated household as a planning problem of the ALFRED domain, which ALFWorld's engine plays. Written for the domain, not copied from it."""

from __future__ import annotations

from collections.abc import Iterable

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

ALWAYS_RECEPTACLES = ("sink", CLEANER, HEATER, COOLER)
ALWAYS_OBJECTS = ("knife", "butterknife", LAMP)
"""Kinds that the domain's actions name, whether the household has them or not."""

_STATE = {
    "pick_clean_then_place_in_recep": "isClean",
    "pick_heat_then_place_in_recep": "isHot",
    "pick_cool_then_place_in_recep": "isCool",
}


def to_pddl(problem: HouseholdProblem) -> dict[str, str]:
    """{"problem": PDDL text, "goal": the sentence, "grammar": "put" or "move"}. The agent stands where no receptacle is."""
    receptacles = list(problem.receptacles)
    things = [thing for inside in problem.receptacles.values() for thing in inside]
    receptacle_kinds = sorted({*map(kind, receptacles), *ALWAYS_RECEPTACLES})
    object_kinds = sorted({*map(kind, things), *ALWAYS_OBJECTS})
    declared = [
        "agent1 - agent",
        "loc_0 - location",
        *(f"{place(name)} - location" for name in receptacles),
        *(f"{identifier(name)} - receptacle" for name in receptacles),
        *(f"{identifier(name)} - object" for name in things),
        *(f"{type_of(word)} - rtype" for word in receptacle_kinds),
        *(f"{type_of(word)} - otype" for word in object_kinds),
    ]
    facts = [
        "atLocation agent1 loc_0",
        *_receptacle_facts(receptacles),
        *_object_facts(problem),
        *(f"canContain {type_of(r)} {type_of(o)}" for r in receptacle_kinds for o in object_kinds if o != LAMP),
    ]
    text = (
        "(define (problem household)\n(:domain alfred)\n(:objects\n"
        + "\n".join(declared)
        + "\n)\n(:init\n(= (total-cost) 0)\n"
        + "\n".join(f"({fact})" for fact in facts)
        + f"\n)\n(:goal {_goal(problem)})\n)\n"
    )
    return {"problem": text, "goal": f"Your task is to: {problem.goal}", "grammar": problem.grammar}


def identifier(name: str) -> str:
    """ "mug 1" -> "Mug_bar_999". The engine numbers the ids of a kind from the last in the alphabet, and calls a sink with a basin "sinkbasin"."""
    word, _, number = name.rpartition(" ")
    count = f"{1000 - int(number):03d}"
    return f"Sink_bar_{count}_bar_SinkBasin" if word == CLEANER else f"{word.capitalize()}_bar_{count}"


def type_of(word: str) -> str:
    """The type's name in the domain; case does not matter to it."""
    return f"{word.capitalize()}Type"


def place(receptacle: str) -> str:
    return "loc_" + receptacle.replace(" ", "_")


def _receptacle_facts(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        yield f"receptacleType {identifier(name)} {type_of(kind(name))}"
        yield f"receptacleAtLocation {identifier(name)} {place(name)}"
        if is_openable(name):
            yield f"openable {identifier(name)}"


def _object_facts(problem: HouseholdProblem) -> Iterable[str]:
    for receptacle, inside in problem.receptacles.items():
        for name in inside:
            word, entity = kind(name), identifier(name)
            yield f"objectType {entity} {type_of(word)}"
            yield f"inReceptacle {entity} {identifier(receptacle)}"
            yield f"objectAtLocation {entity} {place(receptacle)}"
            if word == LAMP:
                yield f"toggleable {entity}"
                continue
            yield f"pickupable {entity}"
            for ability, words in (("cleanable", CLEANABLE), ("heatable", HEATABLE), ("coolable", COOLABLE)):
                if word in words:
                    yield f"{ability} {entity}"


def _goal(problem: HouseholdProblem) -> str:
    wanted, target = type_of(problem.thing), type_of(problem.target)
    if problem.task_type == "look_at_obj_in_light":
        return (
            f"(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location) (and (objectType ?ot {type_of(LAMP)}) "
            "(toggleable ?ot) (isToggled ?ot) (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?ot ?r))) "
            f"(exists (?o - object ?a - agent) (and (objectType ?o {wanted}) (holds ?a ?o))))"
        )
    if problem.wanted == 2:
        return (
            f"(exists (?r - receptacle) (and (receptacleType ?r {target}) (exists (?o1 - object) (and (objectType ?o1 {wanted}) "
            f"(inReceptacle ?o1 ?r) (exists (?o2 - object) (and (not (= ?o1 ?o2)) (objectType ?o2 {wanted}) (inReceptacle ?o2 ?r)))))))"
        )
    state = f"({_STATE[problem.task_type]} ?o) " if problem.task_type in _STATE else ""
    return (
        f"(exists (?r - receptacle ?o - object) (and (objectType ?o {wanted}) {state}"
        f"(receptacleType ?r {target}) (inReceptacle ?o ?r)))"
    )
