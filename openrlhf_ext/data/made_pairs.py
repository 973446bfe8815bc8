"""Preference pairs as the builders of each kind make them; `data/pairs.py` reads such rows back."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TypedDict

Meta = dict[str, str | float]


class Pair(TypedDict):
    """One preference: texts as DPO and reward models read them; `meta` says where they come from."""

    prompt: str
    chosen: str
    rejected: str
    meta: Meta


@dataclass
class Pairs:
    """The pairs, and for each reason how many things gave none."""

    items: list[Pair] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
