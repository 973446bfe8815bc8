"""Run a checked collection: every wave on disk before the next one is asked."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from openrlhf_ext.collect.growing import GrowingFile
from openrlhf_ext.collect.request import Checked
from openrlhf_ext.collect.sampling import SamplePlan, StepStarts, trajectory
from openrlhf_ext.collect.steps import step_reader
from openrlhf_ext.collect.tally import Tally
from openrlhf_ext.evaluate.asking import Answerer
from openrlhf_ext.evaluate.options import EngineOptions
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.record.text import number
from openrlhf_ext.rollout.prompts import Prompt


@dataclass(frozen=True)
class Collected:
    """The tally of the whole file, and what this command added to it."""

    tally: Tally
    resumed: int
    dropped: int
    tokens: int
    seconds: float

    @property
    def text(self) -> str:
        lines = [self.tally.text()]
        if self.seconds:
            lines.append(
                f"generated here: {self.tokens} tokens, {number(round(self.tokens / self.seconds, 1))} per second"
            )
        return "\n".join(lines)


def collect(checked: Checked, options: EngineOptions) -> Collected:
    """Sample, grade and append what is missing. After a kill, the same call goes on."""
    from openrlhf_ext.evaluate.engine import EnginePool

    plan, request = checked.plan, checked.request
    tally = Tally()
    with GrowingFile(request.out, checked.record, lambda i, row: _known(request.out, plan, tally, i, row)) as file:
        if file.rows > plan.total:
            raise ValueError(
                f"{request.out} holds {file.rows} rows, asked are {plan.total}: repeat the first command's --limit, or more"
            )
        resumed = file.rows
        with Progress(plan.total, "collect", done_steps=resumed) as progress:
            if resumed or file.dropped:
                torn = f", {file.dropped} unfinished line dropped" if file.dropped else ""
                progress.note(f"resumed: {resumed} of {plan.total} trajectories are there{torn}")
            if resumed == plan.total:
                return Collected(tally, resumed, file.dropped, 0, 0.0)
            with EnginePool(options, progress) as pool:
                pool.start(checked.model, checked.task_options, checked.tokenizer, checked.length)
                answer = pool.answers(
                    checked.max_new_tokens,
                    request.top_p,
                    top_k=request.top_k or 0,
                    stop=request.stop,
                    logprobs=request.logprobs,
                )
                steps = step_reader(checked.tokenizer, checked.task, request.delimiters)
                before, started = tally.tokens, time.monotonic()
                fill(file, answer, checked.prompts, plan, tally, progress, checked.task.name, checked.policy, steps)
                seconds = time.monotonic() - started
    return Collected(tally, resumed, file.dropped, tally.tokens - before, seconds)


def fill(
    file: GrowingFile,
    answer: Answerer,
    prompts: tuple[Prompt, ...],
    plan: SamplePlan,
    tally: Tally,
    progress: Progress,
    task: str,
    policy: str,
    steps: StepStarts | None,
) -> None:
    """Ask wave after wave and append what comes back, in the plan's order."""
    for asks in plan.waves(prompts, file.rows):
        progress.phase(f"{len(asks)} samples")
        responses = answer(asks)
        rows = [
            trajectory(ask, response, task=task, policy=policy, steps=steps)
            for ask, response in zip(asks, responses, strict=True)
        ]
        file.append(rows)
        for row in rows:
            tally.add(row)
        figures = tally.figures()
        progress.step(file.rows, correct=figures["success"], truncated=figures["truncated"])


def _known(path: Path, plan: SamplePlan, tally: Tally, number: int, row: dict) -> None:
    if row.get("id") != plan.identity(number):
        raise ValueError(f"{path}:{number + 1}: row {row.get('id')!r} where {plan.identity(number)!r} belongs")
    tally.add(row)
