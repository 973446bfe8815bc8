"""The agent executor that OpenRLHF loads inside every engine (``--train.agent_func_path``): generate once, grade at once.

It hands the task the decoded *response* only. Upstream's ``reward_func`` gets the decoded prompt and response as one text and would
have to cut the prompt off again, and it turns an exception into a missing reward; here an error in a verifier is a zero that is
counted (``verifier_error``) and the policy for it (`task.on_error`) is applied by the rollout source.

The task's options come from the environment variable ``OPENRLHF_EXT_TASK`` (JSON), because upstream constructs executors without
arguments.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence

from openrlhf.utils.agent import SingleTurnAgentExecutor

from openrlhf_ext.rollout.grading import grade_response, wrong_lines
from openrlhf_ext.tasks import make_task

TASK_VARIABLE = "OPENRLHF_EXT_TASK"


class AgentExecutor(SingleTurnAgentExecutor):
    """Single-turn generation graded by the run's task."""

    def __init__(self) -> None:
        super().__init__(remote_rm_url=None)
        self.task = make_task(json.loads(os.environ[TASK_VARIABLE]))

    async def execute(self, prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images=None) -> dict:
        """Upstream's response dict with ``reward``, ``scores`` (0/1 correctness), ``extra_logs`` and the decoded ``text``."""
        response = await super().execute(prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images)
        start, end = response["action_ranges"][0]
        text = hf_tokenizer.decode(response["observation_tokens"][start:end], skip_special_tokens=True)
        text = before_stop(text, sampling_params.stop or ())
        # Grading runs beside generation, off the event loop: a slow verifier must not stall the engine.
        started = time.perf_counter()
        verdict, error = await asyncio.to_thread(grade_response, self.task, text, label)
        marks = None if error else await asyncio.to_thread(wrong_lines, self.task, text, label)
        response.update(
            text=text, reward=verdict.reward, scores=float(verdict.correct), verifier_error=error, wrong_lines=marks
        )
        response["extra_logs"] = {
            **verdict.metrics,
            "correct": float(verdict.correct),
            "parsed": float(verdict.parsed),
            "verifier_error": float(error is not None),
            "verify_seconds": time.perf_counter() - started,
        }
        return response


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text up to the first stop string; the tokens stay as they were sampled."""
    return text[: min((at for mark in stop if (at := text.find(mark)) >= 0), default=len(text))]
