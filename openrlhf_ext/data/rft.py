"""Which correct samples become supervised data (rejection-sampling fine-tuning), as Self-Explore's runs chose them (arXiv:2404.10346).

``equations``: a solution is what its `<<a*b=c>>` marks calculate; one solution per sequence of equations, wrong arithmetic left out. Among
texts of the same equations the one farthest from the other kept texts stays. ``edit``: a text within 20% edits of a kept one is a repeat.
``text``: equal words are repeats. Every choice depends on the file's order and the seed alone, never on hashes.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from openrlhf_ext.data.edit_distance import distance, normalised
from openrlhf_ext.data.programs import exact_value
from openrlhf_ext.data.samples import Sample

DEDUPE = ("auto", "equations", "edit", "text")
SAME_SHARE = 0.2
"""Edits over the mean length, below which two solutions of MATH are the same."""
TOLERANCE = Fraction(1, 1000)

_EQUATION = re.compile(r"<<([^<>]*)>>")


def select_rft(siblings: Sequence[Sample], per_problem: int, dedupe: str = "auto", seed: int = 42) -> list[Sample]:
    """At most `per_problem` correct samples of one problem that differ, in the order of the file.

    ``auto``: equations where a correct sample has some, edit distance for the task math, else the text.
    """
    correct = without_repeats([sample for sample in siblings if sample.correct])
    rule = dedupe if dedupe != "auto" else _rule(correct)
    if rule == "edit":
        return _by_edits(correct, per_problem, seed)
    return _by_signature(correct, calculated=rule == "equations")[:per_problem]


def without_repeats(samples: Sequence[Sample]) -> list[Sample]:
    """The first sample of every text."""
    first: dict[str, Sample] = {}
    for sample in samples:
        first.setdefault(sample.text, sample)
    return list(first.values())


def signature(text: str) -> str:
    """What makes two solutions the same: their equations in order, or their words."""
    equations = _EQUATION.findall(text)
    return "|".join(equation.replace(" ", "") for equation in equations) if equations else " ".join(text.split())


def calculates_right(text: str) -> bool:
    """Whether every `<<a*b=c>>` of the text is arithmetic and right within 1/1000; a text without marks is."""
    return all(_holds(equation) for equation in _EQUATION.findall(text))


def _rule(correct: Sequence[Sample]) -> str:
    if any(_EQUATION.search(sample.text) for sample in correct):
        return "equations"
    return "edit" if any(sample.task == "math" for sample in correct) else "text"


def _holds(equation: str) -> bool:
    sides = equation.split("=")
    if len(sides) < 2:
        return False
    try:
        values = [exact_value(side) for side in sides]
    except ValueError:
        return False
    return all(abs(value - values[0]) <= TOLERANCE for value in values[1:])


def _by_signature(samples: Sequence[Sample], *, calculated: bool) -> list[Sample]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        if not calculated or calculates_right(sample.text):
            groups.setdefault(signature(sample.text), []).append(sample)
    kept = {key: group[0] for key, group in groups.items()}
    for key, group in groups.items():
        others = [sample.text for other, sample in kept.items() if other != key]
        if len(group) > 1 and others and calculated:
            kept[key] = max(group, key=lambda sample: sum(distance(sample.text, text) for text in others))
    return list(kept.values())


def _by_edits(samples: Sequence[Sample], per_problem: int, seed: int) -> list[Sample]:
    kept: list[Sample] = []
    for sample in samples:
        if all(normalised(sample.text, other.text) >= SAME_SHARE for other in kept):
            kept.append(sample)
    if len(kept) > per_problem:
        chosen = random.Random(f"rft {seed} {kept[0].problem!r}").sample(range(len(kept)), per_problem)
        kept = [kept[i] for i in sorted(chosen)]
    return kept


def tally(groups: Sequence[Sequence[Sample]]) -> Counter[str]:
    """How many problems have no correct sample, no wrong one, or both kinds."""
    counts: Counter[str] = Counter()
    for group in groups:
        right = sum(sample.correct for sample in group)
        counts[
            "without a correct sample"
            if not right
            else "without a wrong sample"
            if right == len(group)
            else "with both"
        ] += 1
    return counts
