"""Grading given responses, without a model: rows {"label", "response"} -> the same rows with their verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.base import Label, LabelError, Task
from openrlhf_ext.tasks.fitting import other_task
from openrlhf_ext.tasks.rows import Row, missing_text, read_rows, write_jsonl


@dataclass(frozen=True)
class Spread:
    """Mean, lowest and highest of a number over the graded rows."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(mean(values), min(values), max(values))


@dataclass(frozen=True)
class Summary:
    """What the graded rows come to."""

    rows: int
    correct: int
    """Rows."""
    parsed: int
    """Rows."""
    reward: Spread
    metrics: dict[str, Spread]
    """The task's own measures, in its order."""


def grade_file(task_options: Mapping[str, object], in_path: Path, out_path: Path) -> Summary:
    """Writes each row of `in_path` with {"reward", "correct", "parsed", "metrics"} added.

    Raises ValueError for wrong options or rows, all of them listed, before anything is written.
    """
    task = make_task(task_options)
    out_path = Path(out_path)
    if out_path.is_dir():
        raise ValueError(f"{out_path} is a directory: --out names the file to write")
    rows = _read(Path(in_path), task)
    verdicts = [task.verify(str(row["response"]), _label(row)) for row in rows]
    write_jsonl(out_path, (row | asdict(verdict) for row, verdict in zip(rows, verdicts, strict=True)))
    return Summary(
        rows=len(rows),
        correct=sum(verdict.correct for verdict in verdicts),
        parsed=sum(verdict.parsed for verdict in verdicts),
        reward=Spread.of([verdict.reward for verdict in verdicts]),
        metrics={key: Spread.of([verdict.metrics[key] for verdict in verdicts]) for key in task.metric_keys},
    )


def _read(path: Path, task: Task) -> list[Row]:
    """The rows to grade. Where the task reads none of the labels, that is one problem, not one for every row."""
    labelled: list[Row] = []
    unread: list[str] = []

    def check(row: Row) -> list[str]:
        problems, fault = _missing(row), _label_fault(task, row)
        if not any(problem.startswith("label") for problem in problems):
            labelled.append(row)
        if fault:
            unread.append(fault)
        return [*problems, fault] if fault else problems

    try:
        return read_rows(path, check)
    except ValueError as error:
        if not 1 < len(unread) == len(labelled):
            raise
        fix = other_task(task, [_label(row) for row in labelled], [row.get("datasource") for row in labelled])
        what = (
            f"{path}: {len(unread)} of {len(labelled)} labels are none of the task {task.name}; the first: {unread[0]}"
        )
        raise ValueError("\n".join([what, f"    fix: {fix}", *_other_problems(path)])) from error


def _other_problems(path: Path) -> list[str]:
    """What is wrong with the rows beside labels of another task."""
    try:
        read_rows(path, _missing)
    except ValueError as error:
        return str(error).split("\n")
    return []


def _missing(row: Row) -> list[str]:
    problems = missing_text(row, "response")
    if isinstance(row.get("label"), (str, dict)):
        return problems
    return [*problems, "label: missing; expected a JSON string or object as prepare writes"]


def _label_fault(task: Task, row: Row) -> str:
    """Why the task cannot read the label of a row that has one; empty where it can."""
    if isinstance(row.get("label"), (str, dict)):
        try:
            task.verify("", _label(row))
        except LabelError as error:
            return f"label: {error}"
    return ""


def _label(row: Row) -> Label:
    label = row["label"]
    return label if isinstance(label, (str, dict)) else ""
