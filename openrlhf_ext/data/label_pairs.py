"""Label-sensitive pairs (RLLR; Liao et al. 2024, arXiv:2405.19763): the same input, the right label with its rationale above a wrong one.

The order follows from the labels alone, no one has to prefer anything. Which wrong label a problem gets is drawn uniformly, or as often
as the supervised model confuses the two (hard negatives). A problem without a rationale for the chosen side gives no pair.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from openrlhf_ext.data.candidates import Candidate
from openrlhf_ext.data.labels import split_answer
from openrlhf_ext.data.made_pairs import Meta, Pair, Pairs
from openrlhf_ext.tasks.labels import LabelSpec

Confusion = Mapping[str, Mapping[str, float]]
"""Gold label -> wrong label -> how often the model said it."""


def by_problem(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    """Answers to one problem together, problems in the order of their first answer.

    Raises ValueError where an id names two prompts or two gold labels: a pair has one input.
    """
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        group = groups.setdefault(candidate.problem, [])
        if group and (group[0].prompt, group[0].gold) != (candidate.prompt, candidate.gold):
            raise ValueError(
                f"id {candidate.problem!r} names two different inputs or gold labels: give each input its own"
            )
        group.append(candidate)
    return groups


def make_label_pairs(
    candidates: Iterable[Candidate], *, per_problem: int = 1, confusion: Confusion | None = None, seed: int = 42
) -> Pairs:
    """Up to `per_problem` pairs of every problem: chosen = an answer with the gold label, rejected = one with a wrong label.

    Draws depend on the seed and the problem's id alone, not on its neighbours. No pair of texts comes twice.
    """
    found = Pairs()
    for problem, answers in by_problem(candidates).items():
        rng = random.Random(f"label pairs {seed} {problem}")
        right = [answer for answer in answers if answer.label == answer.gold]
        wrong: dict[str, list[Candidate]] = {}
        for answer in answers:
            if answer.label != answer.gold:
                wrong.setdefault(answer.label, []).append(answer)
        if not right or not wrong:
            found.left_out[f"problems without an answer for {'a wrong' if right else 'the gold'} label"] += 1
            continue
        seen: set[tuple[str, str]] = set()
        for _ in range(4 * per_problem):
            if len(seen) == per_problem:
                break
            label = draw_wrong(right[0].gold, sorted(wrong), confusion, rng)
            chosen, rejected = rng.choice(right), rng.choice(wrong[label])
            if (chosen.text, rejected.text) not in seen:
                seen.add((chosen.text, rejected.text))
                found.items.append(_pair(problem, chosen, rejected))
    return found


def draw_wrong(gold: str, among: Sequence[str], confusion: Confusion | None, rng: random.Random) -> str:
    """A wrong label: uniform, or by the row of `gold` in the confusion; uniform too where the model never erred that way."""
    weights = [(confusion or {}).get(gold, {}).get(label, 0.0) for label in among]
    return rng.choices(among, weights if sum(weights) > 0 else None)[0]


def confusion_of(answers: Iterable[Candidate]) -> dict[str, dict[str, float]]:
    """How often a model gave each wrong label, for each gold label; from its own sampled answers."""
    counts: dict[str, dict[str, float]] = {}
    for answer in answers:
        if answer.label != answer.gold:
            row = counts.setdefault(answer.gold, {})
            row[answer.label] = row.get(answer.label, 0.0) + 1
    return counts


def label_pair_faults(chosen: str, rejected: str, spec: LabelSpec, gold: str | None = None) -> list[str]:
    """What breaks the promise of a label pair: two different known labels, the chosen one the gold label."""
    faults: list[str] = []
    labels: dict[str, str | None] = {}
    for side, text in (("chosen", chosen), ("rejected", rejected)):
        _, labels[side], fault = split_answer(text, spec)
        faults += [f"{side}: {fault}"] if fault else []
    if faults:
        return faults
    if gold is not None and labels["chosen"] != gold:
        faults.append(f"chosen: label {labels['chosen']}, but the gold label is {gold}")
    if labels["chosen"] == labels["rejected"]:
        faults.append(f"both labels are {labels['chosen']}: a label pair needs two different ones")
    return faults


def _pair(problem: str, chosen: Candidate, rejected: Candidate) -> Pair:
    meta: Meta = {
        "kind": "label",
        "problem_id": problem,
        "label": chosen.label,
        "rejected_label": rejected.label,
    }
    return {"prompt": chosen.prompt, "chosen": chosen.text, "rejected": rejected.text, "meta": meta}
