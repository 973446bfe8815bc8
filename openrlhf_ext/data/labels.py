"""Rows of label tasks: released tables, json rows with the task's fields, and the alpaca form of the RLLR project.

sst2/train.tsv      a stirring , funny film<TAB>1
rows.jsonl          {"sentence": "a stirring , funny film", "label": "positive", "rationale": "Stirring and funny praise the film."}
alpaca.json         {"instruction": "...", "input": "...", "output": "Stirring and funny praise it.\\nLabel: positive"}
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_ext.tasks.labels import LABEL_TASKS, LabelSpec, label_line, load_spec
from openrlhf_ext.tasks.rows import MAX_PROBLEMS, Row, missing_text, read_rows

TABLES = (".tsv", ".txt", ".csv")
_LABEL_LINE = re.compile(r"^[ \t]*label[ \t]*:(.*)$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class LabelExample:
    """One input with its gold label; `rationale` where the row has one, `more` what the task grades beside the label."""

    id: str
    question: str
    label: str
    rationale: str | None = None
    more: dict[str, object] = field(default_factory=dict)

    @property
    def label_row(self) -> dict[str, object]:
        """The label as the verifier takes it."""
        return {"label": self.label, **self.more}


def answer_text(rationale: str | None, label: str) -> str:
    """A response: the rationale, then the canonical last line."""
    reason = (rationale or "").strip()
    return f"{reason}\n{label_line(label)}" if reason else label_line(label)


def split_answer(text: str, spec: LabelSpec) -> tuple[str, str | None, str]:
    """(rationale, label, what is wrong): the label is None where the text does not end with exactly one known label line."""
    lines = list(_LABEL_LINE.finditer(text))
    if len(lines) != 1:
        return (
            text,
            None,
            f"{len(lines)} label lines, one `Label: <x>` at the end is expected"
            if lines
            else "no line `Label: <x>` at its end",
        )
    if text[lines[0].end() :].strip():
        return text, None, "text after the label line"
    label = spec.known(lines[0].group(1))
    if label is None:
        return text, None, f"label {lines[0].group(1).strip()!r} is none of {', '.join(spec.labels)} (cut off?)"
    return text[: lines[0].start()].strip(), label, ""


def read_label_examples(task: str, path: Path) -> list[LabelExample]:
    """All examples of a file, in its order. Raises ValueError with one `file:line: problem` line per fault (at most 20)."""
    if task not in LABEL_TASKS:
        raise ValueError(f"{task!r} is no label task: choose one of {', '.join(LABEL_TASKS)}")
    spec, path = load_spec(task), Path(path)
    if path.suffix in TABLES:
        return list(_table(spec, path))
    examples: list[LabelExample] = []

    def check(row: Row) -> list[str]:
        example, problems = example_of(row, spec, f"{task}_{len(examples)}")
        if example is not None:
            examples.append(example)
        return problems

    read_rows(path, check)
    if not examples:
        raise ValueError(f"{path}: no row has a label")
    return examples


def example_of(row: Row, spec: LabelSpec, name: str) -> tuple[LabelExample | None, list[str]]:
    """The example of a json row (called `name` where it has no id), or None and its problems; a row that the task skips has neither."""
    name = str(row.get("id", row.get("pair_ID", name)))
    if "instruction" in row:
        return _alpaca(row, spec, name)
    key = spec.source.json_label if spec.source.json_label in row else "label"
    problems = missing_text(row, *spec.fields)
    if key not in row:
        problems.append(f"{key}: missing")
    elif str(row[key]) in spec.source.skip:
        return None, []
    label = spec.label_of(row.get(key, ""))
    if key in row and label is None:
        problems.append(f"{key}: {row[key]!r} is none of {', '.join(spec.labels)}")
    problems += [f"{extra}: missing" for extra in spec.label_fields if extra not in row]
    if "rationale" in row:
        problems += missing_text(row, "rationale")
    if problems or label is None:
        return None, problems
    question = spec.question({name: str(row[name]).strip() for name in spec.fields})
    rationale = str(row["rationale"]) if "rationale" in row else None
    return LabelExample(name, question, label, rationale, {extra: row[extra] for extra in spec.label_fields}), []


def alpaca_question(row: Row) -> str:
    """Instruction, and below it the input where there is one."""
    return str(row["instruction"]) + (f"\n{row['input']}" if row.get("input") else "")


def _alpaca(row: Row, spec: LabelSpec, name: str) -> tuple[LabelExample | None, list[str]]:
    if isinstance(row.get("output"), list):
        return None, ["output: a list, so this is a file of ranked pairs: give it to prepare pairs"]
    problems = missing_text(row, "instruction", "output")
    if problems:
        return None, problems
    rationale, label, fault = split_answer(str(row["output"]), spec)
    if label is None:
        return None, [f"output: {fault}"]
    more = {extra: row[extra] for extra in spec.label_fields if extra in row}
    return LabelExample(name, alpaca_question(row), label, rationale or None, more), []


def _table(spec: LabelSpec, path: Path) -> Iterator[LabelExample]:
    source, problems = spec.source, []
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    width = max(abs(column) if column < 0 else column + 1 for column in source.columns.values())
    found = []
    for number, cells in _cells(spec, path):
        if number == 1 and source.header is not None and cells and cells[0].strip() == source.header:
            continue
        if len(cells) < width:
            problems.append(f"{path}:{number}: {len(cells)} columns, at least {width} are expected")
            continue
        raw = cells[source.columns["label"]].strip()
        if raw in source.skip:
            continue
        label = spec.label_of(raw)
        if label is None:
            known = ", ".join(source.values or spec.labels)
            problems.append(f"{path}:{number}: label {raw!r} is none of {known}")
            continue
        values = {name: cells[source.columns[name]].strip() for name in spec.fields}
        more: dict[str, object] = {name: cells[source.columns[name]].strip() for name in spec.label_fields}
        found.append(LabelExample(f"{spec.name}_{number}", spec.question(values), label, None, more))
    if not found and not problems:
        problems.append(f"{path}: no rows")
    if problems:
        hidden = len(problems) - MAX_PROBLEMS
        raise ValueError(
            "\n".join(problems[:MAX_PROBLEMS] + ([f"... and {hidden} more problems"] if hidden > 0 else []))
        )
    yield from found


def _cells(spec: LabelSpec, path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells). Quotes mean nothing outside csv: the released tables hold lone ones."""
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode(spec.source.encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not {spec.source.encoding}: {error}") from error
    if path.suffix == ".csv":
        reader = csv.reader(io.StringIO(text, newline=""))
        yield from ((reader.line_num, cells) for cells in reader if cells)
        return
    cut: Callable[[str], list[str]] = (
        (lambda line: line.split(" ", 1)) if spec.source.separator == " " else (lambda line: line.split("\t"))
    )
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, cut(line.rstrip("\r"))
