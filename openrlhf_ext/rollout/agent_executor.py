"""The agent executor of tasks of several turns, which OpenRLHF loads inside every engine: every prompt is an episode in a game of its own."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AbstractAsyncContextManager, nullcontext

from openrlhf.utils.agent import AgentExecutorBase

from openrlhf_ext.rollout.agent import play
from openrlhf_ext.rollout.executor import TASK_VARIABLE
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.environment import is_environment


class AgentExecutor(AgentExecutorBase):
    """As many games at once as the task allows; see `play`."""

    def __init__(self) -> None:
        task = make_task(json.loads(os.environ[TASK_VARIABLE]))
        if not is_environment(task):
            raise TypeError(
                f"task {task.name!r} has one turn: its executor is {TASK_VARIABLE}'s other one, executor.py"
            )
        self.task = task
        self._places: dict[int, asyncio.Semaphore] = {}

    async def execute(self, prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images=None) -> dict:
        async with self._place(label):
            return await play(self.task, prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine)

    def _place(self, label: str) -> AbstractAsyncContextManager:
        count = self.task.parallel([label])
        return nullcontext() if count is None else self._places.setdefault(count, asyncio.Semaphore(count))
