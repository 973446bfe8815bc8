"""Prompt files: rows whose prompt is whole, as `prepare` writes them, or a task's released format, which a template renders."""

from __future__ import annotations

from pathlib import Path

from openrlhf_ext.data.prompts import Problem as Question
from openrlhf_ext.data.prompts import read_problems
from openrlhf_ext.tasks.base import read_label
from openrlhf_ext.tasks.rows import Row, read_rows

WHOLE = ("input", "prompt")
"""Fields that hold a whole prompt, beside a `label`."""


def read_prompts(task: str, path: Path, torn: list[str]) -> tuple[str, list[Question]]:
    """(form of a `Suite`, questions). Half-written lines are passed over and named in `torn`.

    Raises ValueError with one `file:line: field: what` line per other fault.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if _first_is_whole(path):
        rows = read_rows(path, _check_whole, torn)
        return "prompts", [Question(str(row[_field(row)]), dict(read_label(row["label"]))) for row in rows]  # type: ignore[arg-type]
    return "task", read_problems(task, path, torn=torn)


def _first_is_whole(path: Path) -> bool:
    """Whether the file has a whole prompt beside its label in the first row that can be read."""
    found: list[bool] = []

    def look(row: Row) -> list[str]:
        if not found:
            found.append("label" in row and any(name in row for name in WHOLE))
        return []

    read_rows(path, look, torn=[])
    return bool(found) and found[0]


def _field(row: Row) -> str:
    return next((name for name in WHOLE if name in row), WHOLE[0])


def _check_whole(row: Row) -> list[str]:
    name = _field(row)
    problems = []
    if not isinstance(row.get(name), str) or not row[name]:
        problems.append(f"{name}: expected a prompt, found {row.get(name)!r:.40}")
    label = row.get("label")
    if not isinstance(label, (str, dict)):
        return [*problems, "label: missing; expected a JSON text or an object as prepare writes"]
    try:
        read_label(label)
    except ValueError as error:
        problems.append(f"label: {error}")
    return problems
