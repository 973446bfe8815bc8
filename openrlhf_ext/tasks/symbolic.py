r"""Symbolic equality of short LaTeX answers through math-verify.

math-verify limits its time with signals, which work in the main thread only, and rewards are computed in other threads. So
the size of what it gets is limited instead: known commands only, short integers, small exponents that hold no exponents.
"""

import logging
import math
import re
from itertools import pairwise

MAX_CHARS = 200
MAX_DIGITS = 15
MAX_EXPONENT = 40
MAX_GROUP_EXPONENTS = 12
MAX_EXPONENTS = 8

_COMMAND = re.compile(r"\\([A-Za-z]+)")
_KNOWN_COMMAND = re.compile(
    r"d?frac|tfrac|sqrt|pi|cdot|times|div|left|right|text(bf|rm|it)?|math(rm|bf)|mbox|circ|degree|pm|mp|cup|cap|in|leq?|geq?"
    r"|neq?|lt|gt|emptyset|begin|end|[pb]?matrix|sin|cos|tan|sec|csc|cot|arc(sin|cos|tan)|log|ln|exp|alpha|beta|gamma|delta"
    r"|theta|lambda|mu|phi|omega|infty|overline|ldots|q?quad|displaystyle"
)
_EXPONENT_OF = re.compile(r"(.?)\s*(?:\^|\*\*)\s*(\{[^{}]*\}|\([^()]*\)|\\[A-Za-z]+|.)")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox)\{[^{}]*\}|\\[A-Za-z]+")
_NO_VALUE = re.compile(r"[-+]?\s*(?:nan|inf|infinity)", re.IGNORECASE)
_DIGITS = re.compile(r"[-+0-9., ]*")  # not a number (those were compared before): "1 8" and "1,8" must not become 18
_ONE_NUMBER = re.compile(r"[-+]?[0-9,]*\.?[0-9]*")
_MATH_SIGN = re.compile(r"[0-9\\^_{}()\[\]=<>|]")


def equal(answer: str, gold: str) -> bool:
    """Whether both texts mean the same; never raises. Text that could be slow to compare is unequal unless identical."""
    if _NO_VALUE.fullmatch(answer):
        return False
    if answer == gold:
        return True
    if _DIGITS.fullmatch(answer) and (_ONE_NUMBER.fullmatch(gold) or "," not in answer):
        return False
    if not is_cheap(answer) or not _MATH_SIGN.search(answer):
        return False
    if _has_variables(answer) and not _has_variables(gold):
        answer = re.sub(r"^[A-Za-z]\s*=", "", answer)  # "x = 5" may answer 5; anything else with a variable may not
        if _has_variables(answer):
            return False
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns at every call that it has no timeout
    try:
        parsed = [parse(f"${text}$", parsing_timeout=None) for text in (gold, answer)]
        return bool(all(parsed)) and bool(verify(parsed[0], parsed[1], timeout_seconds=None))
    except Exception:
        return False  # sympy raises many types on odd text: an answer that cannot be compared is a wrong answer


def is_cheap(text: str) -> bool:
    """Whether the comparison is sure to be fast."""
    if len(text) > MAX_CHARS or "!" in text.replace("\\!", ""):
        return False
    if not all(_KNOWN_COMMAND.fullmatch(command) for command in _COMMAND.findall(text)):
        return False
    if max((len(run) for run in re.findall(r"[0-9]+", text)), default=0) > MAX_DIGITS:
        return False
    exponents = list(_EXPONENT_OF.finditer(text))
    if len(exponents) != text.count("^") + text.count("**") or len(exponents) > MAX_EXPONENTS:
        return False  # an exponent inside an exponent, or nothing after the sign
    sizes = [math.prod(map(int, re.findall(r"[0-9]+", match.group(2)))) for match in exponents]
    of_groups = [size for match, size in zip(exponents, sizes, strict=True) if match.group(1) in (")", "}", "]")]
    stacked = any(later.start() <= match.end() for match, later in pairwise(exponents))
    return max(sizes, default=0) <= MAX_EXPONENT and sum(of_groups) <= MAX_GROUP_EXPONENTS and not stacked


def _has_variables(text: str) -> bool:
    return re.search(r"[A-Za-z]", _TEXT.sub("", text)) is not None
