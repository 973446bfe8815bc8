"""Which response comes when, and what is kept of it: a fixed order of asks, cut into waves, each becoming a trajectory row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from openrlhf_ext.evaluate.asking import Ask, request_seed
from openrlhf_ext.rollout.prompts import Prompt

TIMES = ("verify_seconds",)
"""Entries of extra_logs that differ from run to run."""


@dataclass(frozen=True)
class SamplePlan:
    """``samples`` responses to each of ``problems`` prompts, problem by problem, at most ``wave`` at once."""

    problems: int
    samples: int
    wave: int
    temperature: float
    seed: int

    @property
    def total(self) -> int:
        return self.problems * self.samples

    def identity(self, number: int) -> str:
        """The id of row ``number``: problem and sample."""
        problem, sample = divmod(number, self.samples)
        return f"{problem}-{sample}"

    def waves(self, prompts: Sequence[Prompt], done: int = 0) -> Iterator[list[Ask]]:
        """What is still to be asked after the first ``done`` rows. Waves end where those of an uninterrupted run do.

        An ask has a seed of its own, so neither waves nor engines change what it draws.
        """
        while done < self.total:
            end = min((done // self.wave + 1) * self.wave, self.total)
            yield [self._ask(prompts, number) for number in range(done, end)]
            done = end

    def _ask(self, prompts: Sequence[Prompt], number: int) -> Ask:
        problem, sample = divmod(number, self.samples)
        return Ask(prompts[problem], sample, self.temperature, request_seed(self.seed, problem, sample))


StepStarts = Callable[[Sequence[int], str], list[int]]
"""(tokens of a response, its text) -> indices of the tokens with which its steps begin."""


def trajectory(ask: Ask, response: dict, *, task: str, policy: str, steps: StepStarts | None) -> dict[str, object]:
    """The response as a row of docs/formats.md. Nothing in it depends on when or where it was sampled."""
    tokens, ranges = list(response["observation_tokens"]), [list(span) for span in response["action_ranges"]]
    row: dict[str, object] = {
        "id": f"{ask.prompt.problem_id}-{ask.sample}",
        "problem_id": ask.prompt.problem_id,
        "sample": ask.sample,
        "task": task,
        "policy": policy,
        "prompt": response.get("prompt", ask.prompt.text),
        "label": ask.prompt.label,
        "text": response["text"],
        "reward": response["reward"],
        "scores": response["scores"],
        "truncated": bool(response["truncated"]),
        "extra_logs": {key: value for key, value in response["extra_logs"].items() if key not in TIMES},
        "observation_tokens": tokens,
        "action_ranges": ranges,
        "rollout_log_probs": response["rollout_log_probs"],
    }
    if "messages" in response:  # an agent's episode: its steps are its turns
        row |= {"step_starts": response["step_starts"], "messages": response["messages"]}
    elif steps is not None:
        start, end = ranges[0]
        row["step_starts"] = [start + at for at in steps(tokens[start:end], response["text"])]
    if response.get("verifier_error"):
        row["verifier_error"] = response["verifier_error"]
    return row
