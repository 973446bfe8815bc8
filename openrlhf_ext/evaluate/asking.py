"""Ask one model all problems of a suite: greedily, then with several samples on a part; grade, record, tell how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from openrlhf_ext.evaluate.heldout import evaluation_row
from openrlhf_ext.evaluate.results import GREEDY, SAMPLED, ModelResults, pending
from openrlhf_ext.evaluate.suite import Suite
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.rollout.grading import grade_response
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.tasks.base import Task, Verdict


@dataclass(frozen=True)
class Ask:
    """One request: the answer number ``sample`` to ``prompt``; equal seeds give equal answers."""

    prompt: Prompt
    sample: int
    temperature: float
    seed: int


Answerer = Callable[[Sequence[Ask]], Sequence[dict]]
"""Responses in order, each with "text", "truncated" and "action_ranges" as upstream's response dict has them."""


@dataclass(frozen=True)
class Prefix:
    """One request to go on after ``tokens`` (prompt included); equal seeds give equal continuations.

    Requests of one ``group`` (a problem, say) go to one engine, whose prefix cache then holds what they share.
    """

    tokens: tuple[int, ...]
    temperature: float
    seed: int
    group: int = 0
    room: int | None = None
    """New tokens at most, where that is less than for the others."""


Continuer = Callable[[Sequence[Prefix]], Sequence[dict]]
"""Continuations in order, each with "tokens", "finish" and "stop" as ``RolloutEngine.continue_tokens`` has them."""


@dataclass(frozen=True)
class AskPlan:
    """Which problems are asked how: ``problems`` greedily, the first ``sampled`` of them ``samples`` times; ``wave`` requests at once."""

    problems: int
    samples: int
    sampled: int
    wave: int
    seed: int

    @classmethod
    def of(cls, suite: Suite, problems: int, wave: int, seed: int) -> AskPlan:
        part = min(problems, suite.sample_rows or problems) if suite.samples > 1 else 0
        return cls(problems, suite.samples, part, wave, seed)

    @property
    def sizes(self) -> dict[str, int]:
        """Answers per problem in each mode."""
        return {GREEDY: 1, SAMPLED: self.samples}

    @property
    def total(self) -> int:
        """Requests for one model."""
        return self.problems + self.sampled * self.samples

    def remaining(self, results: ModelResults) -> list[tuple[str, list[int]]]:
        """What is still to be asked, by mode."""
        return [
            (GREEDY, list(pending(self.problems, results.done(GREEDY)))),
            (SAMPLED, list(pending(self.sampled, results.done(SAMPLED)))),
        ]

    def missing(self, results: ModelResults) -> int:
        """Requests that are still to be made."""
        return sum(len(problems) * self.sizes[mode] for mode, problems in self.remaining(results))


def ask_all(
    answer: Answerer,
    prompts: Sequence[Prompt],
    suite: Suite,
    task: Task,
    plan: AskPlan,
    results: ModelResults,
    progress: Progress,
    name: str,
    done: int = 0,
) -> int:
    """Fill ``results``; every finished wave is on disk before the next one starts. ``done`` answers of the whole are there; returns how many then."""
    for mode, problems in plan.remaining(results):
        for wave in _waves(problems, max(1, plan.wave // plan.sizes[mode])):
            progress.phase(f"{name}: {mode}, {len(wave) * plan.sizes[mode]} answers")
            asks = [
                Ask(
                    prompts[i],
                    sample,
                    suite.temperature if mode == SAMPLED else 0.0,
                    request_seed(plan.seed, i, sample),
                )
                for i in wave
                for sample in range(plan.sizes[mode])
            ]
            rows = [_graded(ask, response, task, mode) for ask, response in zip(asks, answer(asks), strict=True)]
            results.append(rows)
            done += len(rows)
            progress.step(done, correct=_share_correct(results, mode))
    return done


def request_seed(seed: int, problem: int, sample: int) -> int:
    """A seed of its own for every answer, so that a resumed evaluation draws what an uninterrupted one would."""
    return (seed * 1_000_003 + problem * 4_099 + sample) % 2**31


def _graded(ask: Ask, response: dict, task: Task, mode: str) -> dict:
    response = {"prompt": ask.prompt.text, "label": ask.prompt.label} | response
    if "verdict" in response:  # an episode was judged while it was played
        row = evaluation_row(response, Verdict(**response["verdict"]), response.get("verifier_error"))
    else:
        row = evaluation_row(response, *grade_response(task, response["text"], ask.prompt.label))
    return {"problem_id": ask.prompt.problem_id, "mode": mode, "sample": ask.sample} | row


def _share_correct(results: ModelResults, mode: str) -> float:
    answers = [row["correct"] for row in results.rows if row["mode"] == mode]
    return sum(answers) / len(answers)


def _waves(problems: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(problems), size):
        yield problems[start : start + size]
