"""Every key that a method accepts, with its type: OpenRLHF's options and ours under one description."""

from __future__ import annotations

import difflib
import functools
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Union, get_args, get_origin

from openrlhf_ext.config.schema import our_fields
from openrlhf_ext.upstream.cli import Option, destinations

Kind = Literal["int", "float", "bool", "str"]
_KINDS: dict[str, Kind] = {"int": "int", "float": "float", "bool": "bool", "str": "str"}

PROGRAM_OF_METHOD: dict[str, str] = {
    "sft": "sft",
    "rm": "rm",
    "dpo": "dpo",
    "kto": "dpo",
    "self-explore": "dpo",
    "ppo": "ppo",
    "grpo": "ppo",
    "reverse-curriculum": "ppo",
    "rllr": "ppo",
    "oreo": "ppo",
}
"""Method -> the OpenRLHF program whose options it takes."""

AVAILABLE_METHODS: tuple[str, ...] = (
    "sft",
    "rm",
    "dpo",
    "kto",
    "self-explore",
    "grpo",
    "reverse-curriculum",
    "oreo",
    "rllr",
)
"""Methods that this version can run."""


OFFLINE_METHODS: tuple[str, ...] = ("oreo",)
"""Methods that train on stored trajectories: no engine takes part, and no task needs to grade."""

PREFERENCE_METHODS: tuple[str, ...] = ("rm", "dpo", "kto", "self-explore")
"""Methods that train on preferences, through OpenRLHF's programs for them."""


@dataclass(frozen=True)
class Knob:
    """One key: its scalar type, default, and what it accepts."""

    key: str
    kind: Kind
    default: object
    choices: tuple[object, ...] = ()
    count: int | None = None
    """How many values a list must have; 0 = any number of at least one; None = a scalar."""
    optional: bool = False
    """May be null."""
    upstream: bool = False


@functools.cache
def knobs(method: str) -> Mapping[str, Knob]:
    """All keys of ``method`` except the open ``task.*`` ones."""
    table = {key: _upstream_knob(key, option) for key, option in destinations(PROGRAM_OF_METHOD[method]).items()}
    table.update({key: _our_knob(key, hint, default) for key, (hint, default) in our_fields(method).items()})
    return types.MappingProxyType(table)


def closest(key: str, known: Iterable[str]) -> str:
    """``"did you mean a or b?"`` for a key that is not known; empty where nothing is near."""
    known = list(known)
    near = difflib.get_close_matches(key, known, n=2, cutoff=0.6)
    leaf = key.rsplit(".", 1)[-1]
    near += [k for k in known if k.rsplit(".", 1)[-1] == leaf and k not in near][: 3 - len(near)]
    return f"did you mean {' or '.join(near)}?" if near else ""


def _upstream_knob(key: str, option: Option) -> Knob:
    kind: Kind = "bool" if option.store_true else _KINDS[option.type]
    count = {"*": 0, "+": 0}.get(option.nargs) if isinstance(option.nargs, str) else option.nargs
    default = _typed(kind, option.default)
    return Knob(
        key=key,
        kind=kind,
        default=default,
        choices=tuple(option.choices or ()),
        count=count,
        optional=option.default is None,
        upstream=True,
    )


def _our_knob(key: str, hint: object, default: object) -> Knob:
    arms = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    optional = type(None) in arms
    (arm,) = [a for a in arms if a is not type(None)]
    count = None
    if get_origin(arm) is list:
        (arm,), count = get_args(arm), 0
    choices = get_args(arm) if get_origin(arm) is Literal else ()
    kind = "str" if choices else _KINDS[arm.__name__]
    return Knob(key=key, kind=kind, default=default, choices=choices, count=count, optional=optional)


def _typed(kind: Kind, default: object) -> object:
    """OpenRLHF writes some float defaults as ints and some lists as tuples."""
    if isinstance(default, (list, tuple)):
        return [_typed(kind, item) for item in default]
    return float(default) if kind == "float" and isinstance(default, int) else default
