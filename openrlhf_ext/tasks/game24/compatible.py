"""The published reward rules with their defects, for parity with the published numbers (facts: sections 5 and 7).

Known defects that are kept: a line is not checked against the line before it, the text before `left:` is never checked,
identical lines other than roll-backs are errors, a wrong final value counts twice (so the process part reaches -1), a trailing
newline forfeits the outcome, and number tricks such as `2_4`, `1.5`, `2e1`, `**` and `//` count as arithmetic.
Use the strict checker for anything but comparison.
"""

import re
from collections.abc import Sequence

from openrlhf_ext.tasks.game24.checker import Check
from openrlhf_ext.tasks.game24.python_value import NoValue, python_value

TOLERANCE = 1e-6
_DIGITS = re.compile(r"[0-9]+")
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
MAX_DIGITS = 400


def check_compatible(response: str, numbers: Sequence[int], target: int) -> Check:
    """Checks a response by the published rules; `process` is in [-1, 1]. Never raises."""
    lines = response.split("assistant\n")[-1].split("\n")
    case = sorted(numbers)
    seen: set[str] = set()
    errors = [0] * len(lines)
    for at, line in enumerate(lines):
        errors[at] = _line_errors(line, case, target, is_last=at == len(lines) - 1, is_repeated=line in seen)
        seen.add(line)
    finished = "expression:" in lines[-1]
    value = _text_value(_expression(lines[-1])) if finished else None
    return Check(
        solved=finished and _is_solution(_expression(lines[-1]), case, target),
        has_expression=value is not None,
        finished=finished,
        process=1 - sum(errors) / len(lines),
        lines=len(lines),
        wrong=tuple(at for at, count in enumerate(errors) if count),
    )


def _line_errors(line: str, case: list[int], target: int, is_last: bool, is_repeated: bool) -> int:
    if "left:" in line:
        if is_repeated and "roll back" not in line:
            return 1
        used = _cards_integers(line.split("left:")[-1])
        return 0 if used is not None and sorted(used) == case else 1
    if "expression:" in line:
        if not is_last:
            return 1
        text = _expression(line)
        return int(not _hits_target(text, target)) + int(not _is_solution(text, case, target))
    return 1


def _cards_integers(text: str) -> list[int] | None:
    """The integers that the cards use, or None where a card is wrong."""
    integers: list[int] = []
    for card in text.split(",") if "," in text or "=" in text else text.split():
        if "=" not in card:
            number = card.strip()
            if not _INTEGER.fullmatch(number) or len(number) > MAX_DIGITS:
                return None
            integers.append(int(number))
            continue
        sides = card.split("=")
        left, right = (_text_value(side) for side in (sides[0], sides[-1]))
        if len(sides) != 2 or left is None or right is None or not _close(left, right):
            return None
        integers += _integers(sides[0])
    return integers


def _expression(line: str) -> str:
    return line.split("expression:")[-1]


def _integers(text: str) -> list[int]:
    return [int(digits) for digits in _DIGITS.findall(text)]


def _text_value(text: str) -> float | int | None:
    try:
        return python_value(text)
    except NoValue:
        return None


def _close(a: float | int, b: float | int) -> bool:
    try:
        return abs(a - b) < TOLERANCE
    except OverflowError:
        return False


def _hits_target(text: str, target: int) -> bool:
    value = _text_value(text)
    return value is not None and _close(value, target)


def _is_solution(text: str, case: list[int], target: int) -> bool:
    return _hits_target(text, target) and sorted(_integers(text)) == case
