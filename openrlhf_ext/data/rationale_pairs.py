"""Rationale-sensitive pairs: the same input and the same label, a better rationale above a worse one.

What is better is a scorer's word: the `score` of the row (a person's, or another model's), a rule, or a function of yours
(`--scorer package.module:function`, which is given the `Candidate`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module

from openrlhf_ext.data.candidates import Candidate
from openrlhf_ext.data.label_pairs import by_problem
from openrlhf_ext.data.labels import split_answer
from openrlhf_ext.data.made_pairs import Meta, Pair, Pairs
from openrlhf_ext.tasks.labels import LabelSpec
from openrlhf_ext.tasks.labels.toy import rationale_quality

Scorer = Callable[[Candidate], float]


def given(candidate: Candidate) -> float:
    """The row's own `score`."""
    if candidate.score is None:
        raise ValueError(f"problem {candidate.problem}: no score in its row; add one, or choose another --scorer")
    return candidate.score


def names_deciding_word(candidate: Candidate) -> float:
    """label-toy: 1 if the rationale names the word that decides the label."""
    return rationale_quality(candidate.rationale, str(candidate.more["word"]))


def overlap(candidate: Candidate) -> float:
    """The share of the rationale's different words of four letters and more that the prompt has too: does it speak of this input?"""
    words = set(re.findall(r"\w{4,}", candidate.rationale.lower()))
    return len(words & set(re.findall(r"\w{4,}", candidate.prompt.lower()))) / max(1, len(words))


SCORERS: Mapping[str, Scorer] = {"score": given, "label-toy": names_deciding_word, "overlap": overlap}


def find_scorer(name: str) -> Scorer:
    """A scorer by name, or `package.module:function`. Raises ValueError where there is none."""
    if name in SCORERS:
        return SCORERS[name]
    module, colon, function = name.partition(":")
    if not colon:
        raise ValueError(f"--scorer {name}: choose one of {', '.join(SCORERS)}, or name package.module:function")
    try:
        scorer: Scorer = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--scorer {name}: {error}") from error
    return scorer


def make_rationale_pairs(
    candidates: Iterable[Candidate],
    scorer: Scorer,
    *,
    per_problem: int = 1,
    min_gap: float = 0.0,
    gold_only: bool = False,
    seed: int = 42,
) -> Pairs:
    """Up to `per_problem` pairs of every problem, both sides with one label, the chosen score above the rejected by more than `min_gap`.

    `gold_only`: only rationales for the right label. Otherwise the label that both sides share may be a wrong one, so that the model
    trained on them learns nothing about labels.
    """
    found = Pairs()
    for problem, answers in by_problem(candidates).items():
        usable = [a for a in answers if a.rationale and (a.label == a.gold or not gold_only)]
        scored = [(answer, scorer(answer)) for answer in usable]
        every = [
            (better, worse, high, low)
            for better, high in scored
            for worse, low in scored
            if better.label == worse.label and high - low > min_gap and better.text != worse.text
        ]
        if not every:
            found.left_out["problems without two rationales of one label and different quality"] += 1
            continue
        rng = random.Random(f"rationale pairs {seed} {problem}")
        for better, worse, high, low in rng.sample(every, min(per_problem, len(every))):
            found.items.append(_pair(problem, better, worse, high, low))
    return found


def rationale_pair_faults(chosen: str, rejected: str, spec: LabelSpec) -> list[str]:
    """What breaks the promise of a rationale pair: one known label on both sides, different texts."""
    faults: list[str] = []
    labels: dict[str, str | None] = {}
    for side, text in (("chosen", chosen), ("rejected", rejected)):
        _, labels[side], fault = split_answer(text, spec)
        faults += [f"{side}: {fault}"] if fault else []
    if not faults and labels["chosen"] != labels["rejected"]:
        faults.append(f"labels {labels['chosen']} and {labels['rejected']}: a rationale pair needs equal ones")
    if not faults and chosen.strip() == rejected.strip():
        faults.append("both sides are the same text")
    return faults


def _pair(problem: str, better: Candidate, worse: Candidate, high: float, low: float) -> Pair:
    meta: Meta = {
        "kind": "rationale",
        "problem_id": problem,
        "label": better.label,
        "chosen_score": high,
        "rejected_score": low,
    }
    return {"prompt": better.prompt, "chosen": better.text, "rejected": worse.text, "meta": meta}
