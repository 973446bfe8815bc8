"""The wrong solutions that explore starts from: of outcome pairs, or of graded samples. Everything that is left out is counted.

A wrong solution ends at its first answer. Of a response that the token limit cut off the unfinished last line is no step.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_ext.data.explore import WrongSolution
from openrlhf_ext.data.rft import without_repeats
from openrlhf_ext.data.samples import (
    ANSWERED_IN_WORDS,
    Sample,
    by_problem,
    graded_at_first_answer,
    objects,
    read_samples,
)
from openrlhf_ext.tasks.base import LabelError, Task
from openrlhf_ext.tasks.math_word import find_answer
from openrlhf_ext.tasks.rows import missing_text, skipped
from openrlhf_ext.tasks.steps import SPLITTERS, through_answer

MAX_FAULTS = 20


@dataclass
class WrongSolutions:
    """The solutions in file order, and for each reason how many were left out; `torn`: lines that were no JSON."""

    items: list[WrongSolution] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    torn: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        notes = [f"left out {count}: {what}" for what, count in sorted(self.left_out.items()) if count]
        return notes + skipped(self.torn)


@dataclass(frozen=True)
class _Candidate:
    id: str
    problem: str | int
    prompt: str
    label: str
    wrong: str
    chosen: str | None
    truncated: bool = False


def from_pairs(path: Path, task: Task, splitter: str) -> WrongSolutions:
    """The rejected texts of outcome pairs. The gold answer is `meta.label`, else the answer of the chosen text; `meta.truncated` says
    that the token limit cut the rejected text off.

    Raises ValueError for rows without prompt, chosen and rejected, at most 20 shown.
    """
    found = WrongSolutions()
    faults: list[str] = []
    torn: list[str] = []
    candidates: list[_Candidate] = []
    for number, row in objects(Path(path)):
        where = f"{path}:{number}"
        if row is None:
            torn.append(where)
            continue
        missing = missing_text(dict(row), "prompt", "chosen", "rejected")
        faults += [f"{where}: {fault}" for fault in missing]
        if not missing:
            candidates.append(_of_pair(number, row))
    if faults:
        more = [f"... and {len(faults) - MAX_FAULTS} more problems"] if len(faults) > MAX_FAULTS else []
        raise ValueError("\n".join(faults[:MAX_FAULTS] + more))
    found.torn = tuple(torn)
    return _collect(found, candidates, task, splitter)


def from_samples(path: Path, task: Task, splitter: str, per_problem: int | None = None) -> WrongSolutions:
    """The wrong samples of a file, each text once, at most `per_problem` of a problem; correct samples are dealt out among them."""
    samples = read_samples(Path(path), task.name)
    candidates: list[_Candidate] = []
    found = WrongSolutions(torn=samples.torn)
    for siblings in by_problem(graded_at_first_answer(samples.items)).values():
        right = [sample.text for sample in without_repeats([s for s in siblings if s.correct])]
        wrong = [sample for sample in without_repeats(siblings) if not sample.correct]
        if not wrong:
            found.left_out["problems without a wrong sample"] += 1
        if not right:
            found.left_out["problems without a correct sample (explored; a pit at their first step gives no pair)"] += 1
        candidates += _dealt(wrong[:per_problem], right)
    return _collect(found, candidates, task, splitter)


def _dealt(wrong: Sequence[Sample], right: Sequence[str]) -> Iterator[_Candidate]:
    for i, sample in enumerate(wrong):
        chosen = right[i % len(right)] if right else None
        identity = f"{sample.problem}-{i}"
        yield _Candidate(identity, sample.problem, sample.prompt, sample.label, sample.text, chosen, sample.truncated)


def _of_pair(number: int, row: Mapping[str, object]) -> _Candidate:
    meta = row.get("meta")
    fields: Mapping[str, object] = meta if isinstance(meta, Mapping) else {}
    label, chosen = fields.get("label"), str(row["chosen"])
    if not label:
        answer = find_answer(chosen)
        label = json.dumps({"answer": answer}) if answer else ""
    problem = fields.get("problem_id", row["prompt"])
    return _Candidate(
        id=str(number),
        problem=problem if isinstance(problem, int) else str(problem),
        prompt=str(row["prompt"]),
        label=label if isinstance(label, str) else json.dumps(label),
        wrong=str(row["rejected"]),
        chosen=chosen,
        truncated=fields.get("truncated") is True,
    )


def _collect(found: WrongSolutions, candidates: Sequence[_Candidate], task: Task, splitter: str) -> WrongSolutions:
    split = SPLITTERS[splitter]
    for candidate in candidates:
        solution = _solution(candidate, task, split)
        if isinstance(solution, str):
            found.left_out[solution] += 1
        else:
            found.items.append(solution)
    return found


def _solution(candidate: _Candidate, task: Task, split: Callable[[str], list[str]]) -> WrongSolution | str:
    """The solution, or why it cannot be explored."""
    text, answered = (
        through_answer(candidate.wrong, task.name)
        if task.name in ANSWERED_IN_WORDS | {"game24"}
        else (candidate.wrong, False)
    )
    try:
        if task.verify(text, candidate.label).correct:
            return "solutions that are right by their first answer"
    except LabelError:
        return "solutions without a gold answer"
    steps = split(text)
    if candidate.truncated and not answered and len(steps) > 1 and not text.endswith("\n"):
        steps = steps[:-1]
    if not steps:
        return "empty solutions"
    return WrongSolution(
        candidate.id,
        candidate.problem,
        candidate.prompt,
        candidate.label,
        task.name,
        tuple(steps),
        answered,
        candidate.chosen,
    )
