"""A request to collect, checked against the world before anything starts: model, task, prompts, lengths, output."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.collect.growing import out_problems, resume_problems
from openrlhf_ext.collect.prompts import read_prompts
from openrlhf_ext.collect.sampling import SamplePlan
from openrlhf_ext.config.problem import Problem, errors
from openrlhf_ext.config.values import coerce_open
from openrlhf_ext.data.prompts import Problem as Question
from openrlhf_ext.evaluate.models import Model, digest, read_models
from openrlhf_ext.evaluate.option_checks import below_one, empty_texts, sampling_problems
from openrlhf_ext.evaluate.request import checked_task, split_lines
from openrlhf_ext.evaluate.suite import Suite
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.tasks import Task
from openrlhf_ext.tasks.rows import skipped

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class CollectRequest:
    """What was asked for. ``top_k``: None = the whole vocabulary; ``max_new_tokens``: None = 512, or what the context leaves."""

    model: str
    task: Mapping[str, object]
    prompts: Path
    out: Path
    samples: int
    template: str = "plain"
    system: str | None = None
    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int | None = None
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    delimiters: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 42
    wave: int = 256
    logprobs: bool = False
    resume: bool = False
    precision: str = ""


@dataclass(frozen=True)
class Checked:
    """A request that can be run. ``length``: prompt and response together, in tokens; ``record``: what FILE.request.json holds."""

    request: CollectRequest
    task: Task
    task_options: Mapping[str, object]
    model: Model
    tokenizer: PreTrainedTokenizerBase
    prompts: tuple[Prompt, ...]
    plan: SamplePlan
    max_new_tokens: int
    length: int
    record: Mapping[str, object] = field(default_factory=dict)

    @property
    def policy(self) -> str:
        """Who sampled: name and fingerprint of the weights."""
        return f"{self.model.name}@{self.model.fingerprint}"


def check_request(request: CollectRequest, device: str) -> tuple[Checked | None, list[Problem]]:
    """The request ready to run, or every problem that was found. Nothing is written or started."""
    found = _numbers(request)
    options = {key: coerce_open(value) for key, value in request.task.items()}
    task = checked_task(options, found)
    suite: Suite | None = None
    questions: list[Question] = []
    if task is not None:
        suite = Suite(
            name=str(options["name"]),
            task=options,
            template=request.template,
            system=request.system,
            max_new_tokens=request.max_new_tokens or Suite.max_new_tokens,
        )
        try:
            torn: list[str] = []
            form, questions = read_prompts(suite.name, request.prompts, torn)
            found += [Problem(f"--prompts {request.prompts}", note, "", note=True) for note in skipped(torn)]
            suite = dataclasses.replace(suite, form=form)
            task.verify("", json.dumps(questions[0].label))
        except ValueError as error:  # LabelError too
            found += split_lines(error, "correct the file")
    models, more = read_models([request.model], device)
    found += more + out_problems(request.out, request.resume)
    if suite is None or task is None or not questions or not models or errors(found):
        return None, found
    return _with_tokenizer(request, suite, task, questions, models[0], found)


def _with_tokenizer(
    request: CollectRequest, suite: Suite, task: Task, questions: Sequence[Question], model: Model, found: list[Problem]
) -> tuple[Checked | None, list[Problem]]:
    from openrlhf_ext.evaluate.rendering import engine_share

    explicit = request.max_new_tokens is not None
    share = engine_share(suite, task, questions[: request.limit], [model], found, explicit=explicit)
    if share is None:
        return None, found
    record = _record(request, suite, questions, model, share.max_new_tokens)
    found += resume_problems(request.out, record)
    if errors(found):
        return None, found
    plan = SamplePlan(len(share.prompts), request.samples, request.wave, request.temperature, request.seed)
    new_tokens, length = share.max_new_tokens, share.length
    checked = Checked(
        request, task, suite.task, model, share.tokenizer, share.prompts, plan, new_tokens, length, record
    )
    return checked, found


def _numbers(request: CollectRequest) -> list[Problem]:
    counts = {
        "n": request.samples,
        "top-k": request.top_k,
        "limit": request.limit,
        "max-new-tokens": request.max_new_tokens,
    }
    found = below_one(counts.items())
    found += sampling_problems(request.temperature, request.top_p)
    if request.temperature == 0 and request.samples > 1:
        what = f"0, so the {request.samples} samples of a problem would be the same response"
        found.append(Problem("--temperature", what, "--temperature 0.7, or --n 1"))
    return found + empty_texts({"stop": request.stop, "delimiters": request.delimiters})


def _record(
    request: CollectRequest, suite: Suite, questions: Sequence[Question], model: Model, new_tokens: int
) -> dict[str, object]:
    """What must be equal for two commands to write the same file; --limit may grow."""
    return {
        "command": "collect",
        "model": f"{model.name}@{model.fingerprint}",
        "task": suite.task,
        "prompts": digest([[q.question, q.label, q.head] for q in questions]),
        "form": suite.form,
        "template": request.template if suite.form == "task" else None,
        "system": request.system,
        "samples": request.samples,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "max_new_tokens": new_tokens,
        "stop": list(request.stop),
        "delimiters": list(request.delimiters),
        "seed": request.seed,
        "logprobs": request.logprobs,
        "precision": request.precision,
    }
