"""Grading given responses, without a model: rows {"label", "response"} -> the same rows with their verdict."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.base import Label, LabelError, Task
from openrlhf_ext.tasks.rows import Row, missing_text, read_rows, write_jsonl


@dataclass(frozen=True)
class Summary:
    """Means over the graded rows."""

    rows: int
    reward: float
    correct: float
    parsed: float

    def __str__(self) -> str:
        return f"{self.rows} rows: mean reward {self.reward:.4f}, correct {self.correct:.1%}, parsed {self.parsed:.1%}"


def grade_file(task_options: Mapping[str, object], in_path: Path, out_path: Path) -> Summary:
    """Writes each row of `in_path` with {"reward", "correct", "parsed", "metrics"} added.

    Raises ValueError for wrong options or rows, all of them listed, before anything is written.
    """
    task = make_task(task_options)
    out_path = Path(out_path)
    if out_path.is_dir():
        raise ValueError(f"{out_path} is a directory: --out names the file to write")
    rows = read_rows(Path(in_path), lambda row: _problems(task, row))
    verdicts = [task.verify(str(row["response"]), _label(row)) for row in rows]
    write_jsonl(out_path, (row | asdict(verdict) for row, verdict in zip(rows, verdicts, strict=True)))
    return Summary(
        rows=len(rows),
        reward=mean(verdict.reward for verdict in verdicts),
        correct=mean(float(verdict.correct) for verdict in verdicts),
        parsed=mean(float(verdict.parsed) for verdict in verdicts),
    )


def _problems(task: Task, row: Row) -> list[str]:
    problems = missing_text(row, "response")
    if not isinstance(row.get("label"), (str, dict)):
        return [*problems, "label: missing; expected a JSON string or object as prepare writes"]
    try:
        task.verify("", _label(row))
    except LabelError as error:
        problems.append(f"label: {error}")
    return problems


def _label(row: Row) -> Label:
    label = row["label"]
    return label if isinstance(label, (str, dict)) else ""
