"""The engine of ALFWorld (optional extra) against the toy: the same commands, texts and wins on the same generated problems."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import pytest

from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.environment import EnvironmentUnavailable
from openrlhf_ext.tasks.household import engine
from openrlhf_ext.tasks.household.engine import Child, EngineHousehold, engine_faults
from openrlhf_ext.tasks.household.generate import TASK_TYPES, Shape, generate
from openrlhf_ext.tasks.household.pddl import identifier, to_pddl
from openrlhf_ext.tasks.household.toy import ToyHousehold
from openrlhf_ext.tasks.household.walk import searching_walk

needs_engine = pytest.mark.skipif(bool(engine_faults()), reason="the extra alfworld is not installed")
BEYOND = {"help", "slice {co} with {ko}"}
"""Commands of the engine that generated households have no use for."""


@needs_engine
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("grammar", ["put", "move"])
def test_the_toy_is_the_engine_in_small(grammar: str) -> None:
    problems = generate({"unseen": len(TASK_TYPES)}, seed=5, shape=Shape(grammar=grammar))["unseen"]
    chance, real, toy = random.Random(1), EngineHousehold(300), ToyHousehold()
    for problem in problems:
        assert real.reset(problem) == toy.reset(problem)
        assert set(real.templates) - BEYOND == set(toy.templates)
        for action in _moves(toy, problem, chance):
            ours, theirs = toy.step(action), real.step(action)
            assert theirs[:3] == ours[:3], action
            assert theirs[3]["valid"] == ours[3]["valid"]
            assert set(theirs[3]["admissible"]) - BEYOND == set(ours[3]["admissible"]), action
    real.close()


def _moves(toy: ToyHousehold, problem, chance: random.Random):
    """Fifteen random commands, a wrong one, then the walk of one who starts anew; a random start may make the walk fail in both alike."""
    for _ in range(15):
        yield chance.choice(toy.admissible())
    yield "put the moon in the sink"
    yield from searching_walk(problem)


@needs_engine
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_walks_win_in_the_engine_too_and_children_are_used_again() -> None:
    task = make_task({"name": "household", "backend": "alfworld", "engine_timeout": 300})
    before = None
    for problem in generate({"train": len(TASK_TYPES)}, seed=8)["train"]:
        verdict = task.verify("\n".join(searching_walk(problem)), {"problem": problem.to_json()})
        assert (verdict.reward, verdict.metrics["invalid_actions"]) == (1.0, 0.0)
        (child,) = engine._idle
        assert before in (None, child.process.pid)
        before = child.process.pid


def test_without_the_extra_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    task = make_task({"name": "household", "backend": "alfworld"})
    assert task.self_test() == [] and make_task({"name": "household"}).unplayable() == []
    assert task.unplayable() == [f"textworld and alfworld not found: {engine.INSTALL}"]
    with pytest.raises(EnvironmentUnavailable, match="install the extra"):
        EngineHousehold(1).reset("game.tw-pddl")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.exit(3)", r"ended (with code 3|before)"),
        ("import time; time.sleep(60)", "did not answer 'load' within 0.3 s: raise task.engine_timeout"),
        ('input(); print(\'{"error": "no such file"}\', flush=True); input()', "failed on 'load': no such file"),
    ],
)
def test_an_engine_that_fails_says_how(monkeypatch: pytest.MonkeyPatch, program: str, reason: str) -> None:
    child = Child.__new__(Child)
    child._buffer = b""
    child.process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    monkeypatch.setattr(engine, "borrow", lambda: child)
    game = EngineHousehold(0.3 if "sleep" in program else 20)
    started = time.monotonic()
    with pytest.raises(EnvironmentUnavailable, match=reason):
        game.reset("game.tw-pddl")
    assert time.monotonic() - started < 20
    assert child.process.poll() is not None  # not left behind, and not given to the next game
    assert engine._idle == []


def test_pddl_names_and_goals() -> None:
    assert identifier("mug 2") == "Mug_bar_998" and identifier("sinkbasin 1") == "Sink_bar_999_bar_SinkBasin"
    problems = {p.task_type: p for p in generate({"train": 6}, seed=1)["train"]}
    hot = to_pddl(problems["pick_heat_then_place_in_recep"])["problem"]
    assert "(isHot ?o)" in hot and "(atLocation agent1 loc_0)" in hot and "(= (total-cost) 0)" in hot
    assert "(not (= ?o1 ?o2))" in to_pddl(problems["pick_two_obj_and_place"])["problem"]
    assert hot.count("(") == hot.count(")")
