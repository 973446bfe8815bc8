"""Data files before a run: can every row be read, does it have its columns, can the task read its label."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openrlhf_ext.config.load import Resolved
from openrlhf_ext.config.problem import Problem
from openrlhf_ext.tasks.base import LabelError, Task
from openrlhf_ext.tasks.fitting import other_task

SHOWN = 5
"""Bad rows named one by one; the rest are counted."""
LABELS_CHECKED = 5000

_TABLES = (".parquet", ".arrow", ".csv")


@dataclass(frozen=True)
class Rows:
    """Rows of the files that ``key`` names, with the place of each."""

    key: str
    input_key: str
    rows: list[dict]
    places: list[str]
    """``train.jsonl line 7`` of each row."""
    incomplete: bool = False
    """Some of the data could not be read here."""


def read_rows(resolved: Resolved, key: str, *, elsewhere: bool = False) -> tuple[Rows | None, list[Problem]]:
    """Rows of all JSON(L) files of a comma-separated list; other sources are left to OpenRLHF and reported as a note.

    ``elsewhere``: the run is meant for other machines, so a file that is not here is only remarked on.
    """
    names = resolved.text(key)
    if not names:
        return None, []
    rows: list[dict] = []
    places: list[str] = []
    problems: list[Problem] = []
    incomplete = False
    for name in (part.strip() for part in names.split(",")):
        path = Path(name.split("@")[0])
        if path.suffix in (".json", ".jsonl"):
            if not path.is_file():
                what = f"no such file: {path}"
                problems.append(Problem(resolved.where(key), what, _data_hint(path), note=elsewhere))
                incomplete = True
                continue
            more, their_places, theirs = _read_json(path)
            rows, places, problems = rows + more, places + their_places, problems + theirs
            incomplete |= bool(theirs)
            problems += _recorded_traces(resolved.where(key), path)
        else:
            incomplete = True
            problems.append(_unread(resolved, key, path))
    if not rows and not problems:
        problems.append(Problem(resolved.where(key), f"{names} holds no rows", "give a file with rows"))
    return Rows(key, resolved.text("data.input_key"), rows, places, incomplete), problems


def row_problems(resolved: Resolved, data: Rows, task: Task | None) -> list[Problem]:
    """Missing or empty columns and labels the task cannot read, file and line named."""
    found = _columns(resolved, data)
    if task is not None:
        found += _labels(resolved, data, task)
    return found


def _recorded_traces(where: str, path: Path) -> Iterator[Problem]:
    """The format of search traces where ``traces.json`` beside them records it: nothing else tells v2 from v3 before a run."""
    try:
        recipe = json.loads((path.parent / "traces.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(recipe, dict) and path.name in recipe.get("rows", ()):
        yield Problem(where, f"{path} holds search traces in format {recipe.get('format')}", "", note=True)


def _read_json(path: Path) -> tuple[list[dict], list[str], list[Problem]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return [], [], [Problem(str(path), f"cannot be read: {error}", "a UTF-8 JSONL file")]
    if path.suffix == ".json" and text.lstrip().startswith("["):
        return _read_array(path, text)
    rows, places, bad = [], [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            bad.append(Problem(place, f"not JSON: {error}", "one JSON object per line"))
            continue
        if not isinstance(row, dict):
            bad.append(Problem(place, f"a JSON {type(row).__name__}, not an object", "one JSON object per line"))
            continue
        rows.append(row)
        places.append(place)
    return rows, places, _first(bad, str(path))


def _read_array(path: Path, text: str) -> tuple[list[dict], list[str], list[Problem]]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        return [], [], [Problem(str(path), f"not JSON: {error}", "a JSON array, or one object per line")]
    good: list[dict] = []
    places: list[str] = []
    bad: list[Problem] = []
    for index, row in enumerate(rows):
        if isinstance(row, dict):
            good.append(row)
            places.append(f"{path} item {index}")
        else:
            what = f"a JSON {type(row).__name__}, not an object"
            bad.append(Problem(f"{path} item {index}", what, "objects only"))
    return good, places, _first(bad, str(path))


def _columns(resolved: Resolved, data: Rows) -> list[Problem]:
    wanted = {"data.input_key": data.input_key}
    if resolved.program == "ppo":
        wanted["data.label_key"] = resolved.text("data.label_key")
    elif resolved.text("data.output_key"):
        wanted["data.output_key"] = resolved.text("data.output_key")
    chat = resolved.flag("data.apply_chat_template")
    bad = []
    for row, place in zip(data.rows, data.places, strict=True):
        for key, column in wanted.items():
            if column not in row or row[column] is None:
                have = ", ".join(row) or "none"
                bad.append(
                    Problem(place, f"no field {column!r} (it has {have})", f"add it, or set {key} to the field's name")
                )
                continue
            value = row[column]
            allowed = (str, dict) if key == "data.label_key" else (str, list) if chat else (str,)
            if not isinstance(value, allowed):
                bad.append(
                    Problem(
                        place,
                        f"field {column!r} is a {type(value).__name__}, not text",
                        f"write {column!r} as a string",
                    )
                )
            elif key != "data.label_key" and not value:
                bad.append(Problem(place, f"field {column!r} is empty", "remove the row or fill the field"))
    kinds = Counter(type(row.get(wanted.get("data.label_key", ""))).__name__ for row in data.rows)
    if "data.label_key" in wanted and not bad and len(kinds) > 1:
        mixed = ", ".join(f"{count} {name}" for name, count in kinds.items())
        bad.append(Problem(data.key, f"labels of different types: {mixed}", "write every label as a JSON string"))
    return _first(bad, data.key)


def _labels(resolved: Resolved, data: Rows, task: Task) -> list[Problem]:
    column = resolved.text("data.label_key")
    bad: list[Problem] = []
    unread: list[dict] = []
    checked = 0
    stride = -(-len(data.rows) // LABELS_CHECKED) or 1
    for row, place in list(zip(data.rows, data.places, strict=True))[::stride]:
        if not isinstance(row.get(column), (str, dict)):
            continue
        checked += 1
        try:
            task.verify("", row[column])
        except LabelError as error:
            unread.append(row)
            bad.append(
                Problem(place, f"field {column!r}: {error}", f"a label of the task {task.name}, as prepare writes it")
            )
    if len(bad) > SHOWN or 1 < len(bad) == checked:
        what = (
            f"{len(bad)} of {checked} labels are none of the task {task.name}; the first: {bad[0].where}: {bad[0].what}"
        )
        labels, sources = [row[column] for row in unread], [row.get("datasource") for row in unread]
        return [Problem(data.key, what, other_task(task, labels, sources))]
    return bad


def _first(bad: list[Problem], where: str) -> list[Problem]:
    if len(bad) <= SHOWN:
        return bad
    return [*bad[:SHOWN], Problem(where, f"and {len(bad) - SHOWN} more rows like these", "correct them too")]


def _unread(resolved: Resolved, key: str, path: Path) -> Problem:
    where = resolved.where(key)
    if path.suffix in _TABLES and not path.exists():
        return Problem(where, f"no such file: {path}", _data_hint(path))
    if path.exists() or path.suffix in _TABLES:
        return Problem(where, f"{path} is not JSON lines: its rows are not checked here", "", note=True)
    what = f"{path} is no file here: taken for a data set on the Hugging Face hub, its rows are not checked"
    return Problem(where, what, "", note=True)


def _data_hint(path: Path) -> str:
    nearby = sorted(p.name for p in path.parent.glob("*.jsonl")) if path.parent.is_dir() else []
    return (
        f"{path.parent} has {', '.join(nearby[:4])}"
        if nearby
        else "make it with openrlhf-ext prepare, or correct the path"
    )
