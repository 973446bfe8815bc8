"""The lines of a trace as data: a step, a roll-back or the final line (grammar in `traces.py`).

Reading is tolerant where a reader can still see the printed state (so that a check can go on after a bad line) and says
separately whether the line is well formed.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from openrlhf_ext.tasks.game24.expression import ExpressionError, Value, evaluate

MAX_CARDS = 5
_NUMBER = r"-?[0-9]{1,9}(?:/[0-9]{1,9})?"
_STEP = re.compile(rf"\(({_NUMBER})\) ([-+*/]) \(({_NUMBER})\) = (\(?{_NUMBER}\)?)", re.ASCII)
_PLAIN_NUMBER = re.compile(_NUMBER, re.ASCII)
_FINAL = re.compile(r"reach (-?[0-9]{1,9})! expression:(.*)", re.ASCII)


@dataclass(frozen=True)
class Number:
    value: Fraction
    canonical: bool  # an integer or a reduced fraction, as the grammar writes it


@dataclass(frozen=True)
class Cards:
    """The cards after `left:`."""

    values: tuple[Fraction, ...]  # as printed, ascending
    well_formed: bool
    consistent: bool  # every carried expression equals its printed value
    integers: tuple[int, ...] | None  # all integers used, ascending; None where cards carry no expressions


@dataclass(frozen=True)
class Step:
    x: Number
    operator: str
    y: Number
    z: Number
    left: Cards


@dataclass(frozen=True)
class RollBack:
    left: Cards


@dataclass(frozen=True)
class Final:
    """`reach <target>! expression: <text>`; `value` is None where the text is not an expression."""

    target: int
    value: Value | None


@dataclass(frozen=True)
class Broken:
    """A line outside the grammar; `left` is what could be read after `left:`."""

    left: Cards | None


Line = Step | RollBack | Final | Broken


def read_line(text: str) -> Line:
    """What the line says; never raises."""
    text = text.strip(" \r\t")
    final = _FINAL.fullmatch(text)
    if final:
        return Final(int(final.group(1)), _value(final.group(2)))
    head, mark, tail = text.partition("left: ")
    if not mark:
        return Broken(None)
    cards = read_cards(tail)
    if cards is None:
        return Broken(None)
    if head == "roll back, ":
        return RollBack(cards)
    step = _STEP.fullmatch(head.removesuffix(", ")) if head.endswith(", ") else None
    if step is None:
        return Broken(cards)
    x, y, z = (read_number(step.group(group)) for group in (1, 3, 4))
    if x is None or y is None or z is None:
        return Broken(cards)
    return Step(x, step.group(2), y, z, cards)


@lru_cache(maxsize=8192)
def read_number(text: str) -> Number | None:
    """`7`, `-8`, `(-8)` or `7/117`; None for anything else, also for a zero denominator."""
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    if not _PLAIN_NUMBER.fullmatch(text):
        return None
    numerator, _, denominator = text.partition("/")
    if denominator and int(denominator) == 0:
        return None
    value = Fraction(int(numerator), int(denominator or 1))
    return Number(value, str(value) == text)


def read_cards(text: str) -> Cards | None:
    """The printed state, or None where some card has no readable value. The root state may be separated by spaces."""
    texts = text.split(",") if "," in text or "=" in text else text.split()
    if not 1 <= len(texts) <= MAX_CARDS:
        return None
    values: list[Fraction] = []
    integers: list[int] = []
    well_formed = consistent = True
    carries_expression = "=" in text
    for card in texts:
        expression, equals, printed = card.strip(" ").rpartition("=")
        number = read_number(printed.strip(" "))
        if number is None:
            return None
        values.append(number.value)
        well_formed &= number.canonical
        if equals:
            value = _value(expression)
            well_formed &= value is not None
            consistent &= value is not None and value.value == number.value
            integers.extend(value.integers if value else ())
        elif carries_expression:
            well_formed &= number.value.denominator == 1
            integers.append(number.value.numerator)
    used = tuple(sorted(integers)) if carries_expression else None
    return Cards(tuple(sorted(values)), well_formed, consistent, used)


@lru_cache(maxsize=8192)
def _value(text: str) -> Value | None:
    try:
        return evaluate(text)
    except ExpressionError:
        return None
