"""Reading and writing jsonl for the prepare commands: every bad row is reported, and a file appears whole or not at all."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

Row = dict[str, object]
MAX_PROBLEMS = 20


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Writes the rows next to `path` and renames at the end; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with partial.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def read_jsonl(path: Path, check: Callable[[Row], list[str]]) -> list[Row]:
    """All rows of the file. `check` returns what is wrong with a row; all problems are raised together as file:line.

    Raises ValueError (also for a missing or empty file) with one line per problem, at most 20 of them.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    rows: list[Row] = []
    problems: list[str] = []
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            try:
                row = json.loads(raw.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                problems.append(f"{path}:{number}: not JSON ({error})")
                continue
            if not isinstance(row, dict):
                problems.append(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
                continue
            problems += [f"{path}:{number}: {problem}" for problem in check(row)]
            rows.append(row)
    if not rows and not problems:
        problems.append(f"{path}: no rows")
    if problems:
        more = len(problems) - MAX_PROBLEMS
        shown = problems[:MAX_PROBLEMS] + ([f"... and {more} more"] if more > 0 else [])
        raise ValueError("\n".join(shown))
    return rows
