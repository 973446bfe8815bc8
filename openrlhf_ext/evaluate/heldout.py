"""Held-out evaluation inside training: greedy accuracy on every row, pass@k on the first few.

The engines grade with all of the run's task options (a published reward with its defects, say). Here every response is graded again without
those that only say what an answer earns, so that curves of differently rewarded runs can be compared; what counts as right (a tolerance)
and how answers are run (limits of programs) are the run's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from openrlhf_ext.rollout.grading import grade_response, wrong_lines
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.tasks.base import Task, Verdict

Sampler = Callable[[Sequence[Prompt], float, int], list[list[dict]]]
"""(prompts, temperature, samples per prompt) -> upstream's response dicts per prompt."""

REWARD_OPTIONS = frozenset({"checker", "weights", "wrong_expression_reward", "length", "clamp", "partial_reward"})
"""Options of tasks (or their sections) that shape a reward. `checker` is one: the published rules pay for some wrong answers."""


def judging_options(options: Mapping[str, object]) -> dict[str, object]:
    """The options of a `task:` section that decide what is right; keys may be dotted."""
    return {key: value for key, value in options.items() if key.partition(".")[0] not in REWARD_OPTIONS}


@dataclass(frozen=True)
class HeldOut:
    """``prompts`` judged by ``task``; ``samples`` > 1 adds pass@samples over the first ``sample_rows`` prompts at ``temperature``."""

    name: str
    prompts: Sequence[Prompt]
    task: Task
    samples: int = 1
    sample_rows: int = 0
    temperature: float = 1.0

    def run(self, sample: Sampler, *, step: int, with_samples: bool = True) -> tuple[dict[str, float], list[dict]]:
        """Metrics under ``eval/<name>/`` and the graded trajectories."""
        rows = self._graded(sample(self.prompts, 0.0, 1), self.prompts, step, "greedy")
        metrics = {f"eval/{self.name}/{key}": value for key, value in summarise(rows).items()}
        if with_samples and self.samples > 1 and self.sample_rows:
            some = self.prompts[: self.sample_rows]
            sampled = self._graded(sample(some, self.temperature, self.samples), some, step, "sampled")
            metrics[f"eval/{self.name}/pass@{self.samples}"] = pass_rate(sampled, self.samples)
            metrics[f"eval/{self.name}/pass@{self.samples}_count"] = float(len(some))
            rows += sampled
        return metrics, rows

    def _graded(self, responses: list[list[dict]], prompts: Sequence[Prompt], step: int, mode: str) -> list[dict]:
        return [
            evaluation_row(response, *grade_response(self.task, response["text"], prompt.label))
            | {"problem_id": prompt.problem_id, "sample": i, "step": step, "mode": mode, "task": self.name}
            | {"wrong_lines": wrong_lines(self.task, response["text"], prompt.label)}
            for prompt, group in zip(prompts, responses, strict=True)
            for i, response in enumerate(group)
        ]


def evaluation_row(response: dict, verdict: Verdict, error: str | None) -> dict:
    """A response with its verdict, without the token lists."""
    row = {
        "prompt": response["prompt"],
        "label": response["label"],
        "text": response["text"],
        "reward": verdict.reward,
        "correct": verdict.correct,
        "parsed": verdict.parsed,
        "metrics": verdict.metrics,
        "truncated": bool(response["truncated"]),
        "tokens": sum(end - start for start, end in response["action_ranges"]),
    }
    return row | ({"verifier_error": error} if error else {})


def summarise(rows: Sequence[dict]) -> dict[str, float]:
    """Means over ``rows``: accuracy, reward, unfinished (no answer was reached), truncated, length in tokens; and the count."""
    count = len(rows)
    if not count:
        raise ValueError("nothing to summarise: no row was evaluated")
    return {
        "accuracy": sum(row["correct"] for row in rows) / count,
        "reward": sum(row["reward"] for row in rows) / count,
        "unfinished": sum(row["metrics"].get("unfinished", not row["parsed"]) for row in rows) / count,
        "truncated": sum(row["truncated"] for row in rows) / count,
        "length": sum(row["tokens"] for row in rows) / count,
        "verifier_errors": float(sum("verifier_error" in row for row in rows)),
        "count": float(count),
    }


def pass_rate(rows: Sequence[dict], samples: int) -> float:
    """Share of groups of ``samples`` consecutive rows in which at least one is correct."""
    if len(rows) % samples:
        raise ValueError(f"{len(rows)} rows are not whole groups of {samples}")
    groups = [rows[i : i + samples] for i in range(0, len(rows), samples)]
    return sum(any(row["correct"] for row in group) for group in groups) / len(groups)
