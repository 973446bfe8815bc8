"""The loop of exploring first pits, against a sampler that is handed in: engines in a run, an oracle in a test.

Each wave is written before the next one is asked. Every sample has a seed of its own, made of the run's seed, the solution, the step and
the sample's number, so the output depends neither on the number of engines nor on the size of a wave, nor on where a run was stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from openrlhf_ext.data.explore import Completion, Due, Exploration, StepRow, step_row
from openrlhf_ext.data.samples import ANSWERED_IN_WORDS
from openrlhf_ext.tasks.base import Task
from openrlhf_ext.tasks.steps import through_answer


@dataclass(frozen=True)
class PrefixRequest:
    """One completion that is wanted. Requests of one `group`, a problem, share prefixes; equal seeds give equal completions."""

    prefix: str
    seed: int
    group: int


class Sampled(NamedTuple):
    """A completion's text without its end token, and how many tokens were generated."""

    text: str
    tokens: int


Sampler = Callable[[Sequence[PrefixRequest]], Sequence[Sampled]]
Append = Callable[[Sequence[Mapping[str, object]]], None]


def explore(
    exploration: Exploration,
    sample: Sampler,
    task: Task,
    append: Append,
    *,
    seed: int = 42,
    wave: int = 8192,
    after_wave: Callable[[Exploration, int], None] | None = None,
) -> None:
    """Explore until every solution has ended. `append` makes the rows of a wave durable; `wave`: completions at once, at most.

    `after_wave(exploration, completions)` is called when a wave is on disk.
    """
    problems = dict.fromkeys(walk.solution.problem for walk in exploration.walks)
    groups = {problem: number for number, problem in enumerate(problems)}
    while pending := exploration.pending():
        for part in _waves(pending, wave):
            requests = [
                PrefixRequest(
                    due.solution.prefix(due.step), sample_seed(seed, due, number), groups[due.solution.problem]
                )
                for due in part
                for number in range(due.first, due.first + due.count)
            ]
            answers = list(sample(requests))
            if len(answers) != len(requests):
                raise ValueError(f"the sampler gave {len(answers)} completions for {len(requests)} requests")
            rows = list(_rows(part, answers, task))
            append([dict(row) for row in rows])
            for row in rows:
                exploration.observe(row)
            if after_wave is not None:
                after_wave(exploration, len(requests))


def sample_seed(seed: int, due: Due, number: int) -> int:
    """A seed of its own for every completion, the same in every run and whatever else is explored."""
    text = f"explore {seed} {due.solution.id} {due.step} {number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def graded(text: str, tokens: int, label: str, task: Task) -> Completion:
    """The completion up to its first answer, judged alone: neither the prefix nor a second answer can change the verdict."""
    kept, answered = through_answer(text, task.name) if task.name in ANSWERED_IN_WORDS else (text, False)
    if answered and len(kept) < len(text):
        kept = kept.rstrip()
    return {"text": kept, "correct": task.verify(kept, label).correct, "tokens": tokens}


def _rows(part: Sequence[Due], answers: Sequence[Sampled], task: Task) -> Iterator[StepRow]:
    at = 0
    for due in part:
        mine = answers[at : at + due.count]
        at += due.count
        yield step_row(due, [graded(text, tokens, due.solution.label, task) for text, tokens in mine])


def _waves(pending: Sequence[Due], size: int) -> Iterator[Sequence[Due]]:
    """Prefixes together as long as their completions are at most `size`; one prefix is never parted."""
    part: list[Due] = []
    count = 0
    for due in pending:
        if part and count + due.count > size:
            yield part
            part, count = [], 0
        part.append(due)
        count += due.count
    if part:
        yield part
