"""The task `game24`: label {"numbers": [4, 2, 6, 3], "target": 24}, response = a search trace (see `traces.py`)."""

import random
from collections.abc import Mapping, Sequence

from openrlhf_ext.tasks.base import Label, LabelError, Verdict, read_label, split_lines
from openrlhf_ext.tasks.game24.checker import Check, check_strict
from openrlhf_ext.tasks.game24.compatible import check_compatible
from openrlhf_ext.tasks.game24.lines import MAX_CARDS
from openrlhf_ext.tasks.game24.rewards import LengthCurve, RewardRule
from openrlhf_ext.tasks.game24.traces import FORMATS, input_text, prune, render, rewrite, search
from openrlhf_ext.tasks.options import OptionReader

CHECKERS = {"strict": check_strict, "compatible": check_compatible}
MAX_LABEL_NUMBER = 10**6


class Game24:
    """Options: checker, weights, wrong_expression_reward, length.t, length.m, length.k, clamp, max_response_chars.

    `clamp` keeps the process part of the compatible checker at 0 or more. Responses over `max_response_chars` earn nothing.
    """

    metric_keys = ("outcome", "process", "length", "unfinished", "lines")

    def __init__(self, name: str, options: Mapping[str, object]):
        reader = OptionReader(name, options)
        self.name = name
        self.checker = reader.choice("checker", "strict", tuple(CHECKERS))
        outcome, process, length = reader.numbers("weights", (0.55, 0.3, 0.15))
        self.rule = RewardRule(
            weights=(outcome, process, length),
            wrong_expression_reward=reader.number("wrong_expression_reward", 0.0, -1.0, 1.0),
            length=LengthCurve(
                t=reader.number("length.t", 4), m=reader.number("length.m", 20), k=reader.number("length.k", 0.2, 0.0)
            ),
            clamp=reader.flag("clamp", False),
        )
        self.max_response_chars = reader.integer("max_response_chars", 20_000, 1, 1_000_000)
        reader.finish()

    def verify(self, response: str, label: Label) -> Verdict:
        numbers, target = read_case(label)
        if len(response) > self.max_response_chars:
            return Verdict(0.0, False, False, dict.fromkeys(self.metric_keys, 0.0) | {"unfinished": 1.0})
        check = CHECKERS[self.checker](response, numbers, target)
        parts = self.rule.parts(check)
        outcome, process, length = parts
        metrics = {
            "outcome": outcome,
            "process": process,
            "length": length,
            "unfinished": float(not check.finished),
            "lines": float(check.lines),
        }
        return Verdict(self.rule.total(parts), check.solved, check.has_expression, metrics)

    def wrong_lines(self, response: str, label: Label) -> tuple[int, ...]:
        """0-based numbers of the wrong lines."""
        numbers, target = read_case(label)
        check: Check = CHECKERS[self.checker](response, numbers, target)
        return check.wrong

    def split(self, solution: str) -> list[str]:
        return split_lines(solution)

    def self_test(self) -> list[str]:
        tree = search((4, 2, 6, 3), random.Random(0))
        label = {"numbers": [4, 2, 6, 3], "target": 24}
        gold = render(tree, prune(tree, 9, random.Random(0)))
        problems = []
        for form in FORMATS if self.checker == "strict" else ("v3",):
            verdict = self.verify(rewrite(gold, form), label)
            if not verdict.correct or (self.checker == "strict" and verdict.metrics["process"] != 1):
                problems.append(f"a gold trace in format {form} for {input_text(tree)!r} is not right: {verdict}")
        for junk in ("", "24", "reach 24! expression: (4 + 2)", "hocus, left: 4 2 6 3"):
            if self.verify(junk, label).correct:
                problems.append(f"junk counts as correct: {junk!r}")
        return problems


def read_case(label: Label) -> tuple[Sequence[int], int]:
    """(numbers, target) of a label. Raises LabelError."""
    fields = read_label(label)
    numbers, target = fields.get("numbers"), fields.get("target", 24)
    if not isinstance(numbers, list) or not 2 <= len(numbers) <= MAX_CARDS or not all(map(_is_card, numbers)):
        raise LabelError(
            f"label.numbers must be a list of 2 to {MAX_CARDS} integers from 0 to {MAX_LABEL_NUMBER}, found {numbers!r}"
        )
    if not isinstance(target, int) or isinstance(target, bool) or abs(target) > MAX_LABEL_NUMBER:
        raise LabelError(f"label.target must be an integer up to {MAX_LABEL_NUMBER}, found {target!r}")
    return numbers, target


def _is_card(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MAX_LABEL_NUMBER
