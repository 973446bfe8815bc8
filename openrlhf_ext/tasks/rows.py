"""Reading and writing rows: every bad row is reported with file and line, and a written file appears whole or not at all."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

Row = dict[str, object]
MAX_PROBLEMS = 20


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Writes the rows next to `path` and renames at the end; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def read_rows(path: Path, check: Callable[[Row], list[str]], torn: list[str] | None = None) -> list[Row]:
    """All objects of a jsonl file, or of a json file that holds one list.

    `check` returns what is wrong with a row, as `field: what`. Raises ValueError with one `file:line: problem` line per problem
    (at most 20), also for a missing or empty file. In a json list the number is the place in the list.
    With `torn`, lines of a jsonl file that are no JSON, as a writer that was killed leaves them, are passed over and named there as `file:line`.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    rows: list[Row] = []
    problems: list[str] = []
    for number, value, fault in _objects(path):
        if fault and torn is not None and path.suffix != ".json":
            torn.append(f"{path}:{number}")
            continue
        found = [fault] if fault else _row_problems(value, check)
        problems += [f"{path}:{number}: {problem}" for problem in found]
        if isinstance(value, dict) and not found:
            rows.append(value)
    if not rows and not problems:
        problems.append(f"{path}: no rows")
    if problems:
        hidden = len(problems) - MAX_PROBLEMS
        raise ValueError(
            "\n".join(problems[:MAX_PROBLEMS] + ([f"... and {hidden} more problems"] if hidden > 0 else []))
        )
    return rows


def skipped(torn: Sequence[str]) -> list[str]:
    """The note on lines that were passed over, if any."""
    more = " ..." if len(torn) > MAX_PROBLEMS else ""
    return [f"skipped {len(torn)} half-written lines: {', '.join(torn[:MAX_PROBLEMS])}{more}"] if torn else []


def missing_text(row: Row, *fields: str) -> list[str]:
    """A problem for every field that is absent or not text."""
    return [
        f"{field}: expected text, found {type(row[field]).__name__}" if field in row else f"{field}: missing"
        for field in fields
        if not isinstance(row.get(field), str)
    ]


def _objects(path: Path) -> Iterable[tuple[int, object, str]]:
    """(line number, value, what is wrong with the line or "")."""
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if path.suffix == ".json" and data.lstrip().startswith(b"["):
        value, fault = _parse(data)
        items = value if isinstance(value, list) else []
        return [(1, None, fault)] if fault else [(number, item, "") for number, item in enumerate(items, start=1)]
    lines = enumerate(data.split(b"\n"), start=1)
    return [(number, *_parse(line)) for number, line in lines if line.strip()]


def _parse(data: bytes) -> tuple[object, str]:
    try:
        return json.loads(data.decode("utf-8")), ""
    except (ValueError, RecursionError) as error:
        return None, f"not JSON ({error})"


def _row_problems(value: object, check: Callable[[Row], list[str]]) -> list[str]:
    if not isinstance(value, dict):
        return [f"expected a JSON object, found {type(value).__name__}"]
    return check(value)
