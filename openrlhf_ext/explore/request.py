"""A request to explore, checked against the world before anything starts: model, solutions, task, lengths, output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.collect.growing import out_problems, resume_problems
from openrlhf_ext.config.problem import Problem, errors
from openrlhf_ext.config.values import coerce_open
from openrlhf_ext.data.explore import Budget, WrongSolution
from openrlhf_ext.data.samples import objects
from openrlhf_ext.data.wrong_solutions import WrongSolutions, from_pairs, from_samples
from openrlhf_ext.evaluate.models import Model, digest, read_models
from openrlhf_ext.evaluate.option_checks import below_one, sampling_problems
from openrlhf_ext.evaluate.request import checked_task, split_lines
from openrlhf_ext.tasks import Task
from openrlhf_ext.tasks.steps import splitter_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEW_TOKENS = 512
LEAST_NEW_TOKENS = 32
"""What the context must leave behind all steps of a solution; a completion cut sooner would make its prefix look like a pit."""
NAMED = 5


@dataclass(frozen=True)
class ExploreRequest:
    """What was asked for. ``max_new_tokens``: None = 512, or what the context leaves behind each prefix; ``splitter``: None = the task's."""

    model: str
    pairs: Path | None
    trajectories: Path | None
    out: Path
    k: int
    confirm: int = 0
    steps_cap: int = 20
    splitter: str | None = None
    task: Mapping[str, object] | None = None
    temperature: float = 0.7
    top_p: float = 1.0
    max_new_tokens: int | None = None
    limit: int | None = None
    per_problem: int | None = None
    seed: int = 42
    resume: bool = False
    precision: str = ""

    @property
    def source(self) -> Path:
        return self.pairs or self.trajectories or Path()


@dataclass(frozen=True)
class Checked:
    """A request that can be run. ``length``: what prefix and completion together may have, in tokens; ``record``: what FILE.request.json holds."""

    request: ExploreRequest
    task: Task
    task_options: Mapping[str, object]
    model: Model
    tokenizer: PreTrainedTokenizerBase
    solutions: tuple[WrongSolution, ...]
    max_new_tokens: int
    length: int
    record: Mapping[str, object]
    notes: tuple[str, ...]

    @property
    def budget(self) -> Budget:
        return Budget(self.request.k, self.request.confirm, self.request.steps_cap)


def check_request(request: ExploreRequest, device: str) -> tuple[Checked | None, list[Problem]]:
    """The request ready to run, or every problem that was found. Nothing is written or started."""
    found = _numbers(request)
    options, task = _task(request, found)
    solutions: WrongSolutions | None = None
    if task is not None:
        try:
            solutions = _solutions(request, task)
        except ValueError as error:
            found += split_lines(error, "correct the file")
        if solutions is not None and not solutions.items:
            what = "; ".join([f"{request.source} holds no wrong solution to explore", *solutions.notes()])
            found.append(Problem("--pairs" if request.pairs else "--trajectories", what, "give other data"))
    models, more = read_models([request.model], device)
    found += more + out_problems(request.out, request.resume)
    if task is None or solutions is None or not models or errors(found):
        return None, found
    return _with_tokenizer(request, options, task, solutions, models[0], found)


def _task(request: ExploreRequest, found: list[Problem]) -> tuple[dict[str, object], Task | None]:
    options = {key: coerce_open(value) for key, value in (request.task or {}).items()}
    if not request.source.is_file():
        found.append(Problem("--pairs" if request.pairs else "--trajectories", f"{request.source}: no such file", ""))
        return options, None
    if "name" not in options:
        name = _named_task(request.source)
        if not name:
            what = f"missing, and the rows of {request.source} do not name their task"
            found.append(Problem("--task", what, "name the task that grades the completions, e.g. --task gsm8k"))
            return options, None
        options["name"] = name
    return options, checked_task(options, found)


def _named_task(path: Path) -> str:
    """The task that the first readable row names: its `task`, or `meta.task` of a pair."""
    if path.suffix == ".parquet":
        from openrlhf_ext.data.trajectory import read_trajectories

        return str(read_trajectories(path)[0].get("task", ""))
    row = next((row for _, row in objects(path) if row is not None), {})
    meta = row.get("meta")
    return str(row.get("task") or (meta.get("task") if isinstance(meta, Mapping) else "") or "")


def _solutions(request: ExploreRequest, task: Task) -> WrongSolutions:
    splitter = request.splitter or splitter_of(task.name)
    if request.pairs is not None:
        found = from_pairs(request.pairs, task, splitter)
    else:
        found = from_samples(request.source, task, splitter, request.per_problem)
    del found.items[request.limit if request.limit is not None else len(found.items) :]
    return found


def _with_tokenizer(
    request: ExploreRequest,
    options: Mapping[str, object],
    task: Task,
    solutions: WrongSolutions,
    model: Model,
    found: list[Problem],
) -> tuple[Checked | None, list[Problem]]:
    from openrlhf_ext.evaluate.rendering import load_tokenizer

    tokenizer = load_tokenizer(model.folder)
    if isinstance(tokenizer, Problem):
        return None, [*found, tokenizer]
    longest = [s.prefix(min(len(s.steps), request.steps_cap)) for s in solutions.items]
    lengths = [len(ids) for ids in tokenizer(longest, add_special_tokens=False)["input_ids"]]
    context = model.shape.positions if model.shape else None
    new_tokens = request.max_new_tokens or NEW_TOKENS
    room = request.max_new_tokens or LEAST_NEW_TOKENS
    fits = [context is None or length + room <= context for length in lengths]
    kept = [solution for solution, ok in zip(solutions.items, fits, strict=True) if ok]
    if len(kept) < len(fits):
        names = ", ".join([s.id for s, ok in zip(solutions.items, fits, strict=True) if not ok][:NAMED])
        what = (
            f"{len(fits) - len(kept)} of {len(fits)} solutions are longer than {context} - {room} tokens ({names} ...)"
        )
        found.append(Problem(f"--model {model.folder}", f"{what}: left out", "--max-new-tokens", note=bool(kept)))
    record = _record(request, options, kept, model, new_tokens)
    found += resume_problems(request.out, record)
    if errors(found):
        return None, found
    prefix = max(n for n, ok in zip(lengths, fits, strict=True) if ok)
    length = prefix + new_tokens
    if context is not None and length > context:
        length = context
        what = f"its {context} positions end completions before {new_tokens} tokens, behind the longest prefix after {context - prefix}"
        found.append(Problem(f"--model {model.folder}", what, "", note=True))
    notes = tuple(solutions.notes())
    checked = Checked(request, task, options, model, tokenizer, tuple(kept), new_tokens, length, record, notes)
    return checked, found


def _numbers(request: ExploreRequest) -> list[Problem]:
    found = below_one(
        (
            ("k", request.k),
            ("steps-cap", request.steps_cap),
            ("limit", request.limit),
            ("per-problem", request.per_problem),
            ("max-new-tokens", request.max_new_tokens),
        )
    )
    if request.confirm < 0:
        found.append(Problem("--confirm", f"{request.confirm}", "give 0 or more"))
    if request.pairs is not None and request.per_problem is not None:
        found.append(Problem("--per-problem", "pairs are explored as they are", "leave it out"))
    found += sampling_problems(request.temperature, request.top_p)
    if request.temperature == 0 and request.k + request.confirm > 1:
        what = f"0, so the {request.k + request.confirm} completions of a prefix would be the same"
        found.append(Problem("--temperature", what, "--temperature 0.7, or --k 1 without --confirm"))
    return found


def _record(
    request: ExploreRequest,
    options: Mapping[str, object],
    solutions: Sequence[WrongSolution],
    model: Model,
    new_tokens: int,
) -> dict[str, object]:
    """What must be equal for two commands to write the same file."""
    return {
        "command": "explore",
        "model": f"{model.name}@{model.fingerprint}",
        "task": dict(options),
        "solutions": digest([solution.row() for solution in solutions]),
        "k": request.k,
        "confirm": request.confirm,
        "steps_cap": request.steps_cap,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_new_tokens": new_tokens,
        "seed": request.seed,
        "precision": request.precision,
    }
