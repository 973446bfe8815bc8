"""From search results to graded rows: one row per problem and arm, in the form of an evaluation's, with what the search did beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openrlhf_ext.evaluate.asking import Continuer, Prefix
from openrlhf_ext.evaluate.heldout import evaluation_row
from openrlhf_ext.evaluate.results import GREEDY
from openrlhf_ext.rollout.grading import grade_response
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.rollout.search import Beam, Counts, Tokens, Value, beam_search, best_of
from openrlhf_ext.search.proposing import Decode, Proposer
from openrlhf_ext.search.request import Arm
from openrlhf_ext.search.turns import TurnSearch
from openrlhf_ext.tasks.base import Task

SHOWN = 8
"""Finished answers of a problem that are kept beside the chosen one."""


@dataclass(frozen=True)
class Searching:
    """What all arms share: how texts become tokens, who grades, and the limits. `prompts` are token ids, by problem."""

    task: Task
    decode: Decode
    prompts: Sequence[Tokens]
    delimiters: Sequence[str]
    max_new_tokens: int
    step_tokens: int
    max_steps: int
    enough: int | None
    temperature: float
    seed: int
    turns: TurnSearch | None = None
    """For a task of several turns, which is searched turn by turn."""

    def answer(
        self, arm: Arm, problems: Sequence[Prompt], more: Mapping[bool, Continuer], value: Value | None
    ) -> list[dict]:
        """Graded rows of these problems, in order. `more[True]` stops at delimiters, `more[False]` goes on to the end of the answer."""
        if self.turns is not None:
            return self.turns.play(problems, more[False], None if arm.kind == "greedy" else value, arm.width)
        tokens = [self.prompts[prompt.problem_id] for prompt in problems]
        if arm.kind == "greedy":
            return self._greedy(problems, tokens, more[False])
        if value is None:
            raise ValueError(f"{arm.name} needs a value network")
        stepwise = arm.kind == "beams"
        propose = Proposer(
            more=more[stepwise],
            decode=self.decode,
            prompts=self.prompts,
            delimiters=self.delimiters if stepwise else (),
            temperature=self.temperature,
            seed=self.seed,
            max_new_tokens=self.max_new_tokens,
            step_tokens=self.step_tokens if stepwise else self.max_new_tokens,
        )
        if stepwise:
            found = beam_search(
                tokens,
                propose,
                value,
                beams=arm.width,
                samples=arm.samples,
                max_steps=self.max_steps,
                enough=self.enough,
            )
            results = [(result.finished, result.counts) for result in found]
        else:
            results = [
                (list(choice.candidates), choice.counts) for choice in best_of(tokens, propose, value, k=arm.width)
            ]
        return [
            self._searched(prompt, finished, counts)
            for prompt, (finished, counts) in zip(problems, results, strict=True)
        ]

    def _greedy(self, problems: Sequence[Prompt], tokens: Sequence[Tokens], more: Continuer) -> list[dict]:
        asks = [Prefix(t, 0.0, self.seed, prompt.problem_id) for prompt, t in zip(problems, tokens, strict=True)]
        rows = []
        for prompt, answer in zip(problems, more(asks), strict=True):
            row = self._graded(prompt, answer["tokens"], answer["finish"] == "length")
            rows.append(row | {"search": {"generated": len(answer["tokens"])}})
        return rows

    def _searched(self, prompt: Prompt, finished: Sequence[Beam], counts: Counts) -> dict:
        best = finished[0] if finished else None
        row = self._graded(prompt, best.response if best else (), best is None)
        candidates = [self._candidate(prompt, beam) for beam in finished]
        row["search"] = {
            "value": best.value if best else None,
            "steps": best.steps if best else 0,
            "finished": len(finished),
            "finished_correct": sum(candidate["correct"] for candidate in candidates),
            "proposed": counts.proposed,
            "duplicates": counts.duplicates,
            "cut": counts.cut,
            "capped": counts.capped,
            "values_read": counts.values_read,
            "generated": counts.tokens,
            "candidates": candidates[:SHOWN],
        }
        return row

    def _candidate(self, prompt: Prompt, beam: Beam) -> dict:
        text = self.decode(beam.response)
        verdict, _ = grade_response(self.task, text, prompt.label)
        return {"value": beam.value, "correct": verdict.correct, "text": text}

    def _graded(self, prompt: Prompt, response: Sequence[int], truncated: bool) -> dict:
        text = self.decode(response)
        answer = {
            "prompt": prompt.text,
            "label": prompt.label,
            "text": text,
            "truncated": truncated,
            "action_ranges": [(0, len(response))],
        }
        row = evaluation_row(answer, *grade_response(self.task, text, prompt.label))
        return {"problem_id": prompt.problem_id, "mode": GREEDY, "sample": 0} | row
