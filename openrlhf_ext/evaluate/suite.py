"""Suites: what is asked, how it is rendered, how answers are sampled and graded. One YAML file each, under `evaluation/suites`."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_ext.config.problem import ConfigError, Problem
from openrlhf_ext.config.read import Setting, read_file
from openrlhf_ext.data.prompts import READABLE, TEMPLATES, read_problems
from openrlhf_ext.data.prompts import Problem as Question
from openrlhf_ext.tasks import TASKS
from openrlhf_ext.tasks.base import read_label
from openrlhf_ext.tasks.household.generate import SPLITS as HOUSEHOLD_SPLITS
from openrlhf_ext.tasks.options import did_you_mean
from openrlhf_ext.tasks.rows import Row, missing_text, read_rows

CHECKOUT = Path(__file__).resolve().parents[2]
GENERATED_SPLITS = ("train", "test")


@dataclass(frozen=True)
class Suite:
    """One evaluation. Token counts; `task` is a `task:` section with its `name`."""

    name: str
    task: dict[str, object]
    description: str = ""
    data: str | None = None
    """File, or directory of `<split>.jsonl`; null = generated with the defaults of `prepare` (game24, chain)."""
    form: str = "task"
    """task = the task's released format, rendered by `template`; prompts = rows {"input", "label"} whose input is the whole prompt."""
    split: str = "test"
    template: str = "plain"
    """plain, alpaca or chat (the tokenizer's own template)."""
    system: str | None = None
    """System message of the chat template; null = the task's own, if it has one."""
    max_new_tokens: int = 512
    samples: int = 1
    """Answers per problem for pass@k, beside the greedy one; 1 = greedy only."""
    sample_rows: int = 0
    """pass@k over the first n problems; 0 = over all of them."""
    temperature: float = 1.0
    """Of the samples; the greedy answer has none."""
    top_p: float = 1.0
    delimiters: tuple[str, ...] = ()
    """Where a step ends in a search; empty = as the task's steps do."""


@dataclass(frozen=True)
class _Field:
    kind: type
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = field(default=())


_FIELDS = {
    "description": _Field(str),
    "data": _Field(str),
    "form": _Field(str, choices=("task", "prompts")),
    "split": _Field(str),
    "template": _Field(str, choices=TEMPLATES),
    "system": _Field(str),
    "max_new_tokens": _Field(int, 1),
    "samples": _Field(int, 1),
    "sample_rows": _Field(int, 0),
    "temperature": _Field(float, 0.0),
    "top_p": _Field(float, 0.0, 1.0),
    "delimiters": _Field(tuple),
}


def suite_folders() -> list[Path]:
    """Where suites are looked for by name: below the working directory, then in the checkout."""
    return list(dict.fromkeys(root / "evaluation" / "suites" for root in (Path.cwd(), CHECKOUT)))


def find_suite(name: str) -> Path:
    """The suite's file: a path as it is, a name from the suite folders. Raises ConfigError with a suggestion."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        if Path(name).is_file():
            return Path(name)
        raise ConfigError([Problem("--suite", f"no such file: {name}", "correct the path, or give a suite's name")])
    for folder in suite_folders():
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({path.stem for folder in suite_folders() for path in folder.glob("*.yaml")})
    where = " or ".join(map(str, suite_folders()))
    raise ConfigError([Problem("--suite", f"no suite {name!r} in {where}", did_you_mean(name, known))])


def load_suite(name: str) -> Suite:
    """The suite of that name or file. Raises ConfigError with every problem of the file."""
    path = find_suite(name)
    settings = read_file(str(path))
    problems: list[Problem] = []
    values: dict[str, object] = {}
    task: dict[str, object] = {}
    for setting in settings:
        if setting.key.startswith("task."):
            task[setting.key.removeprefix("task.")] = setting.value
        elif setting.key not in _FIELDS:
            problems.append(_unknown(setting))
        elif setting.value is not None:
            try:
                values[setting.key] = _typed(_FIELDS[setting.key], setting.value)
            except ValueError as error:
                problems.append(Problem(f"{setting.key} ({setting.origin})", str(error), "correct the suite"))
    if not isinstance(task.get("name"), str):
        problems.append(Problem(str(path), "no task.name", f"name one of {', '.join(TASKS)}"))
    if problems:
        raise ConfigError(problems)
    return Suite(name=path.stem, task=task, **values)  # type: ignore[arg-type]


def override(suite: Suite, **values: object) -> Suite:
    """The suite with the given fields that are not None. Raises ValueError for a value that the field does not take."""
    given = {key: value for key, value in values.items() if value is not None}
    for key, value in given.items():
        if key in _FIELDS:
            try:
                given[key] = _typed(_FIELDS[key], value)
            except ValueError as error:
                raise ValueError(f"--{key.replace('_', '-')}: {error}") from None
    return dataclasses.replace(suite, **given)  # type: ignore[arg-type]


def read_questions(suite: Suite) -> list[Question]:
    """All problems of the suite's split, labels included. Raises ValueError naming file:line:field."""
    task = str(suite.task["name"])
    if suite.data is not None:
        path = Path(suite.data)
        return _prepared(path, suite.split) if suite.form == "prompts" else read_problems(task, path, suite.split)
    from openrlhf_ext.prepare.prompts import GENERATED

    if task not in GENERATED:
        raise ValueError(
            f"--data is missing: suite {suite.name!r} names no data, and only {', '.join(GENERATED)} are generated"
        )
    splits = HOUSEHOLD_SPLITS if task == "household" else GENERATED_SPLITS
    if suite.split not in splits:
        raise ValueError(f"--split {suite.split}: no such split; {did_you_mean(suite.split, splits)}")
    with tempfile.TemporaryDirectory() as folder:
        GENERATED[task](Path(folder))
        return read_problems(task, Path(folder), suite.split)


def _prepared(path: Path, split: str) -> list[Question]:
    if path.is_dir():
        path = path / f"{split}.jsonl"

    def check(row: Row) -> list[str]:
        problems = missing_text(row, "input")
        if not isinstance(row.get("label"), (str, dict)):
            problems.append("label: missing; expected a JSON string or object as prepare writes")
        elif not problems:
            try:
                read_label(row["label"])  # type: ignore[arg-type]
            except ValueError as error:
                problems.append(f"label: {error}")
        return problems

    rows = read_rows(path, check)
    return [Question(str(row["input"]), dict(read_label(row["label"]))) for row in rows]  # type: ignore[arg-type]


def readable(suite: Suite) -> str | None:
    """Why the suite's task cannot be read from released files, or None where it can."""
    task = str(suite.task["name"])
    if suite.form == "prompts" or task in READABLE:
        return None
    return f"task {task!r} has no reader for released files: give rows made by `prepare prompts` and form: prompts"


def _typed(spec: _Field, value: object) -> object:
    if spec.kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (spec.kind is int and value != int(value)):
            raise ValueError(f"takes a {'whole ' if spec.kind is int else ''}number, got {value!r}")
        if spec.minimum is not None and value < spec.minimum:
            raise ValueError(f"takes {spec.minimum:g} or more, got {value!r}")
        if spec.maximum is not None and value > spec.maximum:
            raise ValueError(f"takes {spec.maximum:g} or less, got {value!r}")
        return spec.kind(value)
    if spec.kind is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) and text for text in value):
            raise ValueError(f"takes a list of texts, got {value!r}")
        return tuple(value)
    if not isinstance(value, str):
        raise ValueError(f"takes text, got {value!r}")
    if spec.choices and value not in spec.choices:
        raise ValueError(f"takes one of {', '.join(spec.choices)}; got {value!r}")
    return value


def _unknown(setting: Setting) -> Problem:
    keys = [*_FIELDS, "task.name"]
    return Problem(f"{setting.key} ({setting.origin})", "a suite has no such key", did_you_mean(setting.key, keys))
