"""A request to evaluate, checked against the world before anything starts: suite, data, models, tokenizers, output folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.config.problem import ConfigError, Problem, errors
from openrlhf_ext.config.values import coerce_open
from openrlhf_ext.data.prompts import Problem as Question
from openrlhf_ext.data.prompts import with_head
from openrlhf_ext.evaluate.asking import AskPlan
from openrlhf_ext.evaluate.models import Model, digest, engine_groups, read_models
from openrlhf_ext.evaluate.results import out_problems, resume_problems
from openrlhf_ext.evaluate.suite import Suite, load_suite, override, read_questions, readable
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.tasks import Task, make_task
from openrlhf_ext.tasks.base import LabelError
from openrlhf_ext.tasks.environment import is_environment

if TYPE_CHECKING:
    from openrlhf_ext.evaluate.rendering import EngineShare

SHOWN = 20
"""Problems of the data shown one by one."""


@dataclass(frozen=True)
class Request:
    """What was asked for; None = as the suite says."""

    suite: str
    out: Path
    models: tuple[str, ...] = ()
    endpoint: str | None = None
    endpoint_model: str | None = None
    task: Mapping[str, object] = field(default_factory=dict)
    """`task.*` settings that replace the suite's."""
    data: str | None = None
    split: str | None = None
    template: str | None = None
    limit: int | None = None
    max_new_tokens: int | None = None
    samples: int | None = None
    sample_rows: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int = 42
    wave: int = 256
    resume: bool = False


@dataclass(frozen=True)
class Checked:
    """A request that can be run."""

    suite: Suite
    task: Task
    plan: AskPlan
    record: dict[str, object]
    """What `evaluation.json` holds."""
    shares: tuple[EngineShare, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    served: str = ""
    """The endpoint's model."""
    url: str = ""


def check_request(
    request: Request,
    device: str,
    record_of: Callable[[Suite, dict[str, object]], dict[str, object]] = lambda _, record: record,
) -> tuple[Checked | None, list[Problem]]:
    """The request ready to run, or every problem that was found. Nothing is written or started.

    ``record_of`` adds to what a later ``--resume`` is compared with.
    """
    found: list[Problem] = []
    suite, task, everything = _what(request, found)
    questions = everything[: request.limit]
    found += out_problems(request.out, request.resume)
    models, more = read_models(request.models, device)
    found += more
    served = url = ""
    if request.endpoint is not None:
        url, served = _server(request, found)
    if suite is None or task is None or not questions:
        return None, found
    plan = AskPlan.of(suite, len(questions), request.wave, request.seed)
    shares: list[EngineShare] = []
    if not errors(found):  # tokenizers take seconds to load: a misspelt request is answered at once
        shares = _shares(request, suite, task, questions, models, found)
    record = record_of(suite, _record(request, suite, everything, models, served, shares))
    found += resume_problems(request.out, record)
    if errors(found):
        return None, found
    prompts = () if shares else _plain_prompts(suite, questions)
    return Checked(suite, task, plan, record, tuple(shares), prompts, served, url), found


def _what(request: Request, found: list[Problem]) -> tuple[Suite | None, Task | None, list[Question]]:
    """Suite, task and questions, as far as they can be read."""
    if request.limit is not None and request.limit < 1:
        found.append(Problem("--limit", f"{request.limit} problems", "give 1 or more, or leave it out"))
    try:
        suite = load_suite(request.suite)
    except ConfigError as error:
        found += error.problems
        return None, None, []
    options = suite.task | {key: coerce_open(value) for key, value in request.task.items()}
    if options["name"] != suite.task["name"]:
        what = f"{options['name']!r}, but the suite {suite.name!r} asks {suite.task['name']!r}"
        found.append(Problem("task.name", what, "choose another --suite"))
        return None, None, []
    try:
        suite = override(
            suite,
            task=options,
            data=request.data,
            split=request.split,
            template=request.template,
            max_new_tokens=request.max_new_tokens,
            samples=request.samples,
            sample_rows=request.sample_rows,
            temperature=request.temperature,
            top_p=request.top_p,
        )
    except ValueError as error:
        found += split_lines(error, "correct the option")
        return None, None, []
    if suite.samples > 1 and suite.temperature == 0:
        what = f"0, so the {suite.samples} samples of a problem would be the same answer"
        found.append(Problem("--temperature", what, "--temperature 1, or --samples 1"))
    task = checked_task(options, found)
    return suite, task, _questions(request, suite, task, found)


def checked_task(options: Mapping[str, object], found: list[Problem]) -> Task | None:
    """The task of a `task:` section that passes its own test; what is wrong is added to ``found``."""
    try:
        task = make_task(options)
    except ValueError as error:
        found += split_lines(error, "see docs/config.md for the tasks' keys")
        return None
    failures = task.self_test()
    found += [Problem("task", f"{task.name} fails its own test: {text}", "correct task.*") for text in failures]
    if is_environment(task):
        found += [Problem("task", f"{task.name} cannot be played here: {text}", "") for text in task.unplayable()]
    return task


def _questions(request: Request, suite: Suite, task: Task | None, found: list[Problem]) -> list[Question]:
    if (why := readable(suite)) is not None:
        found.append(Problem("--suite", why, "correct the suite"))
        return []
    try:
        questions = read_questions(suite)
    except ValueError as error:
        hint = "correct the file" if suite.data is None or Path(suite.data).exists() else _missing_data(suite)
        found += split_lines(error, hint)
        return []
    for i, question in enumerate(questions if task else []):
        try:
            task.verify("", json.dumps(question.label))  # type: ignore[union-attr]
        except LabelError as error:
            found.append(Problem(f"--data: problem {i}", str(error), f"a label of the task {suite.task['name']}"))
            break
    return questions


def _missing_data(suite: Suite) -> str:
    return f"put the data there, or give --data (docs/evaluation.md: the data of {suite.name})"


def _server(request: Request, found: list[Problem]) -> tuple[str, str]:
    """(base URL, model) of a server that answers."""
    from openrlhf_ext.evaluate.endpoint import base_url, served_model

    try:
        url = base_url(str(request.endpoint))
    except ValueError as error:
        found.append(Problem("--endpoint", str(error), "http://HOST:PORT/v1"))
        return "", ""
    served = served_model(url, request.endpoint_model)
    if isinstance(served, Problem):
        found.append(served)
        return url, ""
    return url, served


def _shares(
    request: Request,
    suite: Suite,
    task: Task,
    questions: Sequence[Question],
    models: Sequence[Model],
    found: list[Problem],
) -> list[EngineShare]:
    """One share per engine start; problems of tokenizers and lengths are added to ``found``."""
    from openrlhf_ext.evaluate.rendering import engine_share

    explicit = request.max_new_tokens is not None
    shares = [engine_share(suite, task, questions, group, found, explicit=explicit) for group in engine_groups(models)]
    return [share for share in shares if share is not None]


def _plain_prompts(suite: Suite, questions: Sequence[Question]) -> tuple[Prompt, ...]:
    """Prompts for a server: it applies the chat template itself."""
    from openrlhf_ext.evaluate.rendering import render_prompts

    if suite.template != "chat" or suite.form == "prompts":
        return tuple(render_prompts(suite, questions, None))
    return tuple(
        Prompt(i, with_head(q.question, q.head), json.dumps(q.label), suite.name) for i, q in enumerate(questions)
    )


def _record(
    request: Request,
    suite: Suite,
    questions: Sequence[Question],
    models: Sequence[Model],
    served: str,
    shares: Sequence[EngineShare],
) -> dict[str, object]:
    """What must be equal for two commands to be the same evaluation; rows asked for may grow from one to the next."""
    fields = dataclasses.asdict(suite)
    for key in ("description", "sample_rows", "data", "delimiters"):  # the last is a search's
        del fields[key]
    known = {model.name: model.fingerprint for model in models} | ({served: request.endpoint} if served else {})
    lengths = {model.name: share.max_new_tokens for share in shares for model in share.models}
    return {
        **fields,
        "data": digest([[q.question, q.label] for q in questions]),
        "seed": request.seed,
        "models": {
            name: f"{mark}, at most {lengths[name]} tokens" if name in lengths else mark for name, mark in known.items()
        },
    }


def split_lines(error: Exception, fix: str) -> list[Problem]:
    """One problem per line of a message of the form ``where: what``."""
    found = []
    for line in str(error).splitlines()[: SHOWN + 1]:
        where, _, what = line.partition(": ")
        found.append(Problem(where, what, fix) if what else Problem("request", line, fix))
    return found
