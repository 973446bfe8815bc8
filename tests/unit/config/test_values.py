"""A value takes the type its key wants, or is refused with what the key accepts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.config.knobs import Knob, closest, knobs
from openrlhf_ext.config.values import coerce, coerce_open


def knob(kind: str, **options: object) -> Knob:
    return Knob(key="a.key", kind=kind, default=options.pop("default", 1), **options)


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        ("int", "12", 12),
        ("int", 12.0, 12),
        ("int", "1e3", 1000),
        ("float", "1e-6", 1e-6),
        ("float", 3, 3.0),
        ("bool", "true", True),
        ("bool", "False", False),
        ("bool", False, False),
        ("str", 2024, "2024"),
    ],
)
def test_values_are_converted(kind, value, result):
    converted = coerce(knob(kind), value)
    assert converted == result
    assert type(converted) is type(result)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", "1.5"),
        ("int", True),
        ("int", "many"),
        ("int", float("inf")),
        ("float", "hot"),
        ("float", True),
        ("float", "nan"),
        ("bool", "maybe"),
        ("bool", 2),
        ("int", [1, 2]),
        ("str", {"a": 1}),
        ("int", None),
    ],
)
def test_values_of_another_type_are_refused(kind, value):
    with pytest.raises(ValueError):
        coerce(knob(kind), value)


def test_null_only_where_the_default_is_null():
    assert coerce(knob("int", default=None, optional=True), "null") is None
    with pytest.raises(ValueError, match="null is not allowed"):
        coerce(knob("int"), None)


def test_a_bare_off_in_yaml_is_the_choice_off_and_not_false():
    level = knob("str", choices=("off", "token", "seq"))
    assert coerce(level, False) == "off"
    with pytest.raises(ValueError, match="off, token, seq"):
        coerce(level, True)


def test_lists_have_their_length():
    pair = knob("float", count=2)
    assert coerce(pair, "0.9,0.95") == [0.9, 0.95]
    assert coerce(pair, [0.9, "0.95"]) == [0.9, 0.95]
    assert coerce(pair, "[0.9, 0.95]") == [0.9, 0.95]
    with pytest.raises(ValueError, match="takes 2 values, got 3"):
        coerce(pair, "1,2,3")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.55,0.3,0.15", [0.55, 0.3, 0.15]),
        ("strict", "strict"),
        ("24", 24),
        ("[1, 2]", [1, 2]),
        ("null", None),
        ([1], [1]),
    ],
)
def test_task_options_are_read_as_yaml(text, value):
    assert coerce_open(text) == value


@given(st.integers(min_value=-(10**9), max_value=10**9))
def test_whole_numbers_survive_text(number):
    assert coerce(knob("int"), str(number)) == number


@given(st.floats(allow_nan=False))
def test_numbers_survive_text(number):
    assert coerce(knob("float"), repr(number)) == number


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("actor.adam.l", "actor.adam.lr"),
        ("lr", "actor.adam.lr"),
        ("rollout.batchsize", "rollout.batch_size"),
        ("grpo.momentum", "grpo.max_momentum"),
        ("run.directory", "run.dir"),
    ],
)
def test_a_typo_finds_its_key(typo, meant):
    assert meant in closest(typo, knobs("grpo"))


def test_nonsense_gets_no_suggestion():
    assert closest("qqqqzzzz", knobs("grpo")) == ""
