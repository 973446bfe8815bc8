"""Word problems with one answer: gsm8k, svamp, mawps, math and chain; label {"answer": "18"}.

The answer of a response is what follows the last `####`, else the last "The answer is", else the content of the last
`\\boxed{}`; otherwise nothing is parsed. Plain rationals are compared exactly; anything else goes to math-verify.
"""

import math
import re
from collections.abc import Mapping
from fractions import Fraction

from openrlhf_ext.tasks import symbolic
from openrlhf_ext.tasks.base import Label, LabelError, Verdict, read_label, split_lines
from openrlhf_ext.tasks.options import OptionReader

MAX_ANSWER_CHARS = 200
MAX_NUMBER_CHARS = 60

_ANSWER_IS = re.compile(r"the answer is\s*:?", re.IGNORECASE)
_CURRENCY = re.compile(r"(?:\bUS)?\\?[$€£¥]|^(?:USD|EUR|GBP|JPY|CNY|INR)\s*(?=[-+.0-9])")
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?", re.ASCII)
_MIXED = re.compile(r"([-+]?)([0-9]+) ([0-9]+/[0-9]+)", re.ASCII)
_UNIT = re.compile(r"([-+]?[0-9.,/ ]*[0-9.])\s*(?:\\?%|°[CF]?|[A-Za-z][A-Za-z .²³/'-]*(?:\^[23])?)", re.ASCII)
_LATEX_UNIT = re.compile(r"(?<=[0-9.])(?:\\[ ,;]|\s|~)*\\(?:text|mathrm|mbox)\{[^{}0-9]*\}(?:\^\{?[23]\}?)?$")
_LATEX_TEXT = re.compile(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}")


def find_answer(response: str) -> str | None:
    """The answer text of a response, or None where no form of answer is present."""
    _, mark, tail = response.rpartition("####")
    if mark:
        return _first_line(tail)
    phrases = list(_ANSWER_IS.finditer(response))
    if phrases:
        return _first_line(response[phrases[-1].end() :])
    return last_boxed(response)


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` with matching braces, or None."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for at in range(start + len("\\boxed"), min(len(text), start + 10 * MAX_ANSWER_CHARS)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : at].strip() or None
    return None


def _first_line(text: str) -> str | None:
    return text.strip().split("\n")[0].strip() or None


def clean(answer: str) -> str:
    r"""The answer without an enclosing \boxed{}, currency signs, a trailing period, a percent sign or a unit."""
    answer = last_boxed(answer) or answer
    answer = _LATEX_UNIT.sub("", answer)
    whole = _LATEX_TEXT.fullmatch(answer)
    answer = whole.group(1) if whole else answer
    answer = _CURRENCY.sub("", answer).strip().rstrip(".").strip()
    unit = _UNIT.fullmatch(answer) if len(answer) <= MAX_ANSWER_CHARS else None
    return unit.group(1).rstrip(".") if unit else answer


def rational(text: str) -> Fraction | None:
    """The exact value of `18`, `-1,234.5`, `.5`, `3/4` or `3 1/2`; None for anything else."""
    text = text.strip()
    if len(text) > MAX_NUMBER_CHARS:
        return None
    mixed = _MIXED.fullmatch(text)
    if mixed:
        fraction = rational(mixed.group(3))
        value = None if fraction is None else int(mixed.group(2)) + fraction
        return -value if value is not None and mixed.group(1) == "-" else value
    values = []
    for part in (part.strip() for part in text.split("/")):
        if not _NUMBER.fullmatch(part) or not any(character.isdigit() for character in part):
            return None
        values.append(Fraction(part.replace(",", "").rstrip(".")))
    if len(values) == 1:
        return values[0]
    return values[0] / values[1] if len(values) == 2 and values[1] else None


def same_answer(answer: str, gold: str, tolerance: float = 0.0) -> bool:
    """Whether two answers are equal: as rationals (exactly, or within the tolerance), else symbolically. Never raises."""
    answer, gold = clean(answer), clean(gold)
    left, right = rational(answer), rational(gold)
    if left is not None and right is not None:
        return abs(left - right) <= Fraction(tolerance)
    return symbolic.equal(answer, gold)


class WordProblem:
    """Options: tolerance (absolute, 0 = exact), partial_reward (for a readable but wrong number), max_response_chars."""

    metric_keys = ("answered",)

    def __init__(self, name: str, options: Mapping[str, object]):
        reader = OptionReader(name, options)
        self.name = name
        self.tolerance = reader.number("tolerance", 0.0, 0.0)
        self.partial_reward = reader.number("partial_reward", 0.0, -1.0, 1.0)
        self.max_response_chars = reader.integer("max_response_chars", 50_000, 1, 10_000_000)
        reader.finish()

    def verify(self, response: str, label: Label) -> Verdict:
        gold = read_answer(label)
        answer = find_answer(response) if len(response) <= self.max_response_chars else None
        if answer is None:
            return Verdict(0.0, False, False, {"answered": 0.0})
        correct = same_answer(answer, gold, self.tolerance)
        partial = self.partial_reward if rational(clean(answer)) is not None else 0.0
        return Verdict(1.0 if correct else partial, correct, True, {"answered": 1.0})

    def split(self, solution: str) -> list[str]:
        return split_lines(solution)

    def self_test(self) -> list[str]:
        label = {"answer": "18"}
        problems = []
        for gold in ("9*2=18\n#### 18", "The answer is $18.", "so \\boxed{18}"):
            if self.verify(gold, label).reward != 1:
                problems.append(f"gold does not earn 1: {gold!r}")
        for junk in ("", "18", "#### nan", "#### "):
            if self.verify(junk, label).reward > 0:
                problems.append(f"junk earns a reward: {junk!r}")
        return problems


def read_answer(label: Label) -> str:
    """The gold answer of a label. Raises LabelError."""
    answer = read_label(label).get("answer")
    no_value = isinstance(answer, float) and not math.isfinite(answer)
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float)) or not str(answer).strip() or no_value:
        raise LabelError(f'label must hold {{"answer": "18"}}, found answer={answer!r}')
    return str(answer)
