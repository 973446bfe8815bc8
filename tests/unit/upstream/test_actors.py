"""Reopened classes and the program actor, without Ray and without OpenRLHF: a module of our own plays the program."""

import importlib
import os
import pickle
import sys
import types

import pytest

from openrlhf_ext.upstream import actors
from openrlhf_ext.upstream.actors import ProgramActor, ProgramError, imported, substituted, undecorated


class Ours:
    """Stands for a trainer class."""

    @staticmethod
    def fit(args):
        args.append("ours")


@pytest.fixture
def program(monkeypatch):
    """A fake ``openrlhf.cli.train_sft`` with a trainer class and a ``train`` that uses it."""
    module = types.ModuleType("fake_program")
    exec(
        "class Trainer:\n"
        "    @staticmethod\n"
        "    def fit(args):\n"
        "        args.append('upstream')\n"
        "def train(args):\n"
        "    Trainer.fit(args)\n"
        "    if len(args) > 1:\n"
        "        raise KeyError('too many')\n",
        vars(module),
    )
    real = importlib.import_module
    monkeypatch.setattr(
        actors.importlib, "import_module", lambda name: module if name == "openrlhf.cli.train_sft" else real(name)
    )
    return module


def rank(number: int) -> ProgramActor:
    actor = ProgramActor.__new__(ProgramActor)  # the constructor needs Ray
    actor._rank = number
    return actor


def test_a_program_runs_with_names_substituted_and_gets_them_back(program, monkeypatch):
    monkeypatch.setitem(sys.modules, "ours_for_this_test", sys.modules[__name__])
    original, args = program.Trainer, []
    status = rank(0).run("sft", args, {"Trainer": "ours_for_this_test:Ours"})
    assert args == ["ours"]
    assert program.Trainer is original
    assert status["program"] == "sft" and status["rank"] == 0 and status["seconds"] >= 0


def test_a_program_finds_the_variables_that_are_for_its_process_alone(program, monkeypatch):
    seen: list[str | None] = []
    monkeypatch.setenv("WANDB_MODE", "online")
    program.train = lambda args: seen.append(os.environ["WANDB_MODE"])
    rank(0).run("sft", [], {})
    rank(0).run("sft", [], {}, {"WANDB_MODE": "offline"})
    assert seen == ["online", "offline"]


def test_a_failure_carries_the_traceback_of_the_process_that_failed(program):
    with pytest.raises(ProgramError) as caught:
        rank(1).run("sft", ["already one"], {})
    message = str(pickle.loads(pickle.dumps(caught.value)))
    assert message.startswith("sft failed on rank 1: KeyError: 'too many'")
    assert "in train" in message and "Traceback" in message


def test_a_name_that_the_program_does_not_have_is_refused(program):
    with pytest.raises(ProgramError, match="has no Trainr to put something else in the place of"):
        rank(0).run("sft", [], {"Trainr": "fractions:Fraction"})


def test_substitution_ends_with_the_block_even_after_an_error():
    module = types.ModuleType("m")
    module.a = 1
    with pytest.raises(ZeroDivisionError), substituted(module, {"a": 2}):
        assert module.a == 2
        1 / 0  # noqa: B018
    assert module.a == 1


def test_an_import_path_names_module_and_object():
    from fractions import Fraction

    assert imported("fractions:Fraction") is Fraction
    with pytest.raises(ValueError, match=r"write package\.module:Name"):
        imported("fractions.Fraction")


def test_only_a_decorated_class_can_be_reopened():
    with pytest.raises(TypeError, match="not a class decorated"):
        undecorated(Ours)
