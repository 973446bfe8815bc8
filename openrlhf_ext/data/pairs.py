"""Preference pairs in files: {"prompt", "chosen", "rejected"} rows of jsonl, json or parquet, read and judged before any model sees them.

Whoever made them: `prepare pairs`, TRL (its `prompt/chosen/rejected` data sets, plain or conversational) or a script of the user's. Other columns are kept
aside (`margin`, and `meta` for what our builders say about a pair). Every fault names file and line; nothing is repaired silently.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SHOWN = 5
"""Rows named one by one of each kind of fault; the rest are counted."""

SUFFIXES = (".jsonl", ".json", ".parquet")

Turns = str | list[dict[str, str]]
"""A text, or messages with `role` and `content`."""

Row = Mapping[str, object]


class Finding(NamedTuple):
    """Something about a file: `place` is `file line 7` or the file. A `note` lets a run start."""

    place: str
    what: str
    fix: str
    note: bool = False


class Pair(NamedTuple):
    """One preference. `rest`: what followed the rejected step in the wrong solution, `problem`: what siblings share; both from `meta`, where
    the builder of the pair kept them (`meta.rest`, `meta.problem_id`)."""

    prompt: Turns
    chosen: Turns
    rejected: Turns
    place: str
    margin: float = 0.0
    rest: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a file."""

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"


@dataclass(frozen=True)
class PairRows:
    """Usable pairs in file order, and what is wrong or worth knowing; with an error among `findings` nothing should start."""

    pairs: list[Pair]
    findings: list[Finding]

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.note]


def files_of(names: str) -> list[Path]:
    """The files of a comma-separated list, as OpenRLHF writes it (`name@folder` is cut)."""
    return [Path(part.strip().split("@")[0]) for part in names.split(",") if part.strip()]


def read_pairs(paths: Sequence[Path], columns: Columns, *, messages: bool = False) -> PairRows:
    """All pairs of the files.

    Args:
        messages: a chat template will be applied, so a field may hold messages; without one it must be text.

    A line that is no JSON is skipped, named and counted (a writer was stopped in the middle of it); rows without a column, with an empty
    side, with two equal sides or with something that is no text are errors.
    """
    pairs: list[Pair] = []
    findings: list[Finding] = []
    for path in paths:
        rows, broken = read_rows(path)
        findings += broken
        if not rows:
            continue
        missing = missing_columns(path, [row for _, row in rows], columns, implicit_prompt=messages)
        if missing:
            findings += missing
            continue
        bad: list[Finding] = []
        for place, row in rows:
            found = pair_of(row, place, columns, messages=messages)
            if isinstance(found, Pair):
                pairs.append(found)
            else:
                bad.append(found)
        findings += few(bad, str(path))
    return PairRows(pairs, findings)


def read_rows(path: Path) -> tuple[list[tuple[str, Row]], list[Finding]]:
    """(place, row) of every readable row, and what could not be read."""
    if path.suffix not in SUFFIXES:
        return [], [Finding(str(path), "not a file of pairs by its name", f"give {', '.join(SUFFIXES)}")]
    if not path.is_file():
        return [], [Finding(str(path), "no such file", _near(path))]
    if path.suffix == ".parquet":
        return _parquet(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return [], [Finding(str(path), f"cannot be read: {error}", "a UTF-8 file")]
    if path.suffix == ".json" and text.lstrip().startswith("["):
        return _array(path, text)
    return _lines(path, text)


def missing_columns(
    path: Path, rows: Sequence[Row], columns: Columns, *, implicit_prompt: bool = False
) -> list[Finding]:
    """A column that no row of the file has; `implicit_prompt`: conversations may hold the prompt themselves."""
    present = list(dict.fromkeys(key for row in rows for key in row))
    findings = []
    for role, name in vars(columns).items():
        if name in present or (role == "prompt" and implicit_prompt):
            continue
        near = difflib.get_close_matches(name, present, n=1, cutoff=0.5) or [k for k in present if name in k][:1]
        fix = f"did you mean {near[0]}? --data.{role}_key {near[0]}" if near else f"set data.{role}_key to the column"
        findings.append(Finding(str(path), f"no column {name!r} (it has {', '.join(present) or 'none'})", fix))
    return findings


def pair_of(row: Row, place: str, columns: Columns, *, messages: bool = False) -> Pair | Finding:
    """The row as a pair, or what is wrong with it."""
    prompt, chosen, rejected = (row.get(name) for name in (columns.prompt, columns.chosen, columns.rejected))
    if messages and prompt is None and isinstance(chosen, list) and isinstance(rejected, list):
        if len(chosen) < 2 or chosen[:-1] != rejected[:-1]:
            what = "no prompt, and the two conversations differ before their last message"
            return Finding(place, what, "give the prompt in a column of its own")
        prompt, chosen, rejected = chosen[:-1], chosen[-1:], rejected[-1:]
    turns: list[Turns] = []
    for name, value in zip(vars(columns).values(), (prompt, chosen, rejected), strict=True):
        found = turns_of(value, name, place, messages=messages)
        if isinstance(found, Finding):
            return found
        turns.append(found)
    if turns[1] == turns[2]:
        what = f"{columns.chosen!r} and {columns.rejected!r} are the same: {str(turns[1])[:60]!r}"
        return Finding(place, what, "leave the row out: it prefers nothing")
    margin, meta = row.get("margin"), row.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    return Pair(
        turns[0],
        turns[1],
        turns[2],
        place=place,
        margin=float(margin) if isinstance(margin, (int, float)) else 0.0,
        rest=str(meta.get("rest") or ""),
        problem=str(meta.get("problem_id", "")),
    )


def turns_of(value: object, name: str, place: str, *, messages: bool) -> Turns | Finding:
    """A field as a text or messages, or what is wrong with it."""
    if isinstance(value, str):
        return value if value.strip() else Finding(place, f"field {name!r} is empty", "fill it, or leave the row out")
    if isinstance(value, list) and value and all(_is_message(item) for item in value):
        if messages:
            return [{"role": str(item["role"]), "content": str(item["content"])} for item in value]
        return Finding(place, f"field {name!r} holds messages", "--data.apply_chat_template true, or write plain text")
    if value is None:
        return Finding(place, f"no field {name!r}", "fill it, or leave the row out")
    return Finding(place, f"field {name!r} is a {type(value).__name__}, not text", f"write {name!r} as a string")


def few(bad: Sequence[Finding], where: str) -> list[Finding]:
    """The first faults one by one, the others counted."""
    if len(bad) <= SHOWN:
        return list(bad)
    kinds = Counter(finding.what.partition(":")[0] for finding in bad[SHOWN:])
    counted = ", ".join(f"{count} x {what}" for what, count in kinds.most_common(4))
    what = f"and {len(bad) - SHOWN} more rows like these ({counted})"
    return [*bad[:SHOWN], Finding(where, what, "correct them too", note=all(f.note for f in bad))]


def _is_message(item: object) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get("role"), str) and isinstance(item.get("content"), str)


def _lines(path: Path, text: str) -> tuple[list[tuple[str, Row]], list[Finding]]:
    rows: list[tuple[str, Row]] = []
    broken: list[Finding] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            broken.append(Finding(place, f"not JSON, skipped ({error})", "", note=True))
            continue
        if isinstance(row, dict):
            rows.append((place, row))
        else:
            broken.append(Finding(place, f"a JSON {type(row).__name__}, not an object", "one JSON object per line"))
    if not rows:
        what = f"none of its {len(broken)} lines is a JSON object" if broken else "holds no rows"
        return [], [Finding(str(path), what, "a file with one JSON object per line")]
    if len(broken) > 1:
        broken = [*few(broken, str(path)), Finding(str(path), f"{len(broken)} lines were skipped", "", note=True)]
    return rows, broken


def _array(path: Path, text: str) -> tuple[list[tuple[str, Row]], list[Finding]]:
    try:
        items = json.loads(text)
    except ValueError as error:
        return [], [Finding(str(path), f"not JSON: {error}", "a JSON array, or one object per line")]
    rows: list[tuple[str, Row]] = [(f"{path} item {i}", item) for i, item in enumerate(items) if isinstance(item, dict)]
    bad = [
        Finding(f"{path} item {i}", f"a JSON {type(item).__name__}, not an object", "objects only")
        for i, item in enumerate(items)
        if not isinstance(item, dict)
    ]
    return rows, few(bad, str(path)) if rows else [Finding(str(path), "holds no rows", "give a file with rows")]


def _parquet(path: Path) -> tuple[list[tuple[str, Row]], list[Finding]]:
    import pyarrow
    import pyarrow.parquet

    try:
        items = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowInvalid) as error:
        return [], [Finding(str(path), f"cannot be read: {error}", "a parquet file")]
    if not items:
        return [], [Finding(str(path), "holds no rows", "give a file with rows")]
    return [(f"{path} row {number}", _plain(item)) for number, item in enumerate(items, start=1)], []


def _plain(item: dict[str, object]) -> Row:
    """`meta` is stored as JSON text, since its keys differ from pair to pair."""
    meta = item.get("meta")
    if isinstance(meta, str) and meta.startswith("{"):
        return {**item, "meta": json.loads(meta)}
    return item


def _near(path: Path) -> str:
    names = sorted(p.name for s in SUFFIXES for p in path.parent.glob(f"*{s}")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"{path.parent} has {', '.join(names[:4])}" if names else "make it with openrlhf-ext prepare pairs"
