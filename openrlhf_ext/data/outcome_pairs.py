"""Preference pairs by outcome: a right and a wrong solution of the same problem, chosen as Self-Explore's outcome DPO had them.

``farthest`` (GSM8K): for each solution that RFT keeps, the wrong one with the largest edit distance. ``shortest`` (MATH): as many pairs as
the rarer side has solutions; among wrong ones that differ by more than half (else by 0.4, 0.3, at all) the shortest. ``random``: any two.
Every wrong solution is used once. Degenerate texts are what a largest distance finds, so both sides can be limited in length.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from openrlhf_ext.data.edit_distance import distance, normalised
from openrlhf_ext.data.made_pairs import Meta, Pair, Pairs
from openrlhf_ext.data.rft import select_rft, without_repeats
from openrlhf_ext.data.samples import Sample, by_problem

CHOICES = ("auto", "farthest", "shortest", "random")
THRESHOLDS = (0.5, 0.4, 0.3)


@dataclass(frozen=True)
class OutcomeRule:
    """How pairs are chosen. Lengths in characters; `max_ratio` bounds the rejected text's length by that of the chosen one, both ways."""

    per_problem: int = 8
    choose: str = "auto"
    dedupe: str = "auto"
    seed: int = 42
    min_chars: int = 1
    max_chars: int | None = None
    max_ratio: float | None = None
    keep_truncated: bool = True

    def fits(self, text: str) -> bool:
        return len(text.strip()) >= self.min_chars and (self.max_chars is None or len(text) <= self.max_chars)

    def matches(self, chosen: str, rejected: str) -> bool:
        low, high = sorted((len(chosen), len(rejected)))
        return self.max_ratio is None or high <= self.max_ratio * max(low, 1)


def make_outcome_pairs(samples: Sequence[Sample], rule: OutcomeRule) -> Pairs:
    """Up to `per_problem` pairs of every problem. A wrong sample without a readable answer counts as wrong like any other."""
    found = Pairs()
    for siblings in by_problem(samples).values():
        wrong = [s for s in without_repeats(siblings) if not s.correct and (rule.keep_truncated or not s.truncated)]
        fitting = [s for s in wrong if rule.fits(s.text)]
        found.left_out["wrong samples outside the length limits"] += len(wrong) - len(fitting)
        right = [s for s in select_rft(siblings, len(siblings), rule.dedupe, rule.seed) if rule.fits(s.text)]
        if not right or not fitting:
            found.left_out[f"problems without a {'wrong' if right else 'correct'} sample"] += 1
            continue
        pairs = _CHOOSERS[_chooser(rule, right)](right, fitting, rule)
        if not pairs:
            found.left_out["problems whose pairs differ too much in length"] += 1
        for chosen, rejected in pairs:
            found.items.append(outcome_pair(chosen, rejected))
    found.left_out = +found.left_out
    return found


def outcome_pair(chosen: Sample, rejected: Sample) -> Pair:
    meta: Meta = {
        "kind": "outcome",
        "problem_id": chosen.problem,
        "label": chosen.label,
        "task": chosen.task,
    }
    if rejected.truncated:
        meta["truncated"] = True  # its last line is unfinished: no step
    return {"prompt": chosen.prompt, "chosen": chosen.text, "rejected": rejected.text, "meta": meta}


def _chooser(rule: OutcomeRule, right: Sequence[Sample]) -> str:
    if rule.choose != "auto":
        return rule.choose
    return "shortest" if right[0].task == "math" else "farthest"


def _farthest(right: Sequence[Sample], wrong: Sequence[Sample], rule: OutcomeRule) -> list[tuple[Sample, Sample]]:
    pairs: list[tuple[Sample, Sample]] = []
    left = list(wrong)
    for chosen in right[: rule.per_problem]:
        candidates = [i for i, sample in enumerate(left) if rule.matches(chosen.text, sample.text)]
        if candidates:
            best = max(candidates, key=lambda i: (distance(chosen.text, left[i].text), -i))
            pairs.append((chosen, left.pop(best)))
    return pairs


def _shortest(right: Sequence[Sample], wrong: Sequence[Sample], rule: OutcomeRule) -> list[tuple[Sample, Sample]]:
    pairs: list[tuple[Sample, Sample]] = []
    left = list(wrong)
    for chosen in right[: min(rule.per_problem, len(wrong))]:
        matching = [
            (normalised(chosen.text, s.text), i) for i, s in enumerate(left) if rule.matches(chosen.text, s.text)
        ]
        if not matching:
            continue
        apart = next(
            (found for t in THRESHOLDS if (found := [i for d, i in matching if d > t])), [i for _, i in matching]
        )
        pairs.append((chosen, left.pop(min(apart, key=lambda i: (len(left[i].text), i)))))
    return pairs


def _random(right: Sequence[Sample], wrong: Sequence[Sample], rule: OutcomeRule) -> list[tuple[Sample, Sample]]:
    rng = random.Random(f"pairs {rule.seed} {right[0].problem!r}")
    left = rng.sample(list(wrong), len(wrong))
    pairs: list[tuple[Sample, Sample]] = []
    for chosen in rng.sample(list(right), len(right))[: rule.per_problem]:
        at = next((i for i, sample in enumerate(left) if rule.matches(chosen.text, sample.text)), None)
        if at is not None:
            pairs.append((chosen, left.pop(at)))
    return pairs


_CHOOSERS = {"farthest": _farthest, "shortest": _shortest, "random": _random}
