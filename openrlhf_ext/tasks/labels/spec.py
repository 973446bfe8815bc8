"""The label specification of a task, read from `<task>.yaml` beside this file."""

from __future__ import annotations

import functools
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent
LABEL_TASKS: tuple[str, ...] = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@dataclass(frozen=True)
class Source:
    """How a released table is cut; json files name their fields as the input template does."""

    columns: Mapping[str, int]
    """Field (and `label`) -> column, from 0; negative ones count from the end."""
    values: Mapping[str, str]
    """What stands in the file -> label; empty where the labels themselves stand there."""
    header: str | None = None
    """A first row whose first cell is this is no data."""
    separator: str = "\t"
    encoding: str = "utf-8"
    skip: tuple[str, ...] = ()
    """Rows with these values have no label and are left out."""
    round: bool = False
    """The value is a number, and its label the nearest whole number, halves upwards."""
    json_label: str = "label"


@dataclass(frozen=True)
class LabelSpec:
    """A task whose answers end with a line `Label: <x>`, x from a closed set (in lower case)."""

    name: str
    labels: tuple[str, ...]
    instruction: str
    input: str
    """Template of the fields, such as `Sentence: {sentence}`."""
    source: Source
    label_fields: tuple[str, ...] = ()
    """Further fields of a row that its label carries: what the task grades beside the label."""

    @property
    def fields(self) -> tuple[str, ...]:
        return _fields(self.input)

    def question(self, values: Mapping[str, str]) -> str:
        """The instruction, a line break and the input."""
        return f"{self.instruction}\n{self.input.format(**values)}"

    def known(self, text: str) -> str | None:
        """The label that a text is, without regard to case, blanks around it and one period; None where it is none of the set."""
        plain = normal(text)
        return plain if plain in self.labels else None

    def label_of(self, value: object) -> str | None:
        """The label of a value as released files have it (or of a label itself); None where there is none."""
        raw = str(value).strip()
        if self.source.round:
            try:
                number = float(raw)
            except ValueError:
                return None
            raw = str(int(number + 0.5)) if number >= 0 else raw
        return self.source.values.get(raw) or self.known(raw)


def normal(text: str) -> str:
    """Lower case, no blanks around it, no period at its end."""
    return text.strip().removesuffix(".").strip().lower()


@functools.cache
def load_spec(name: str) -> LabelSpec:
    """The specification of a label task. Raises ValueError naming the file and everything wrong in it."""
    path = FOLDER / f"{name}.yaml"
    if name not in LABEL_TASKS:
        raise ValueError(f"no label task {name!r}: known are {', '.join(LABEL_TASKS)}")
    return read_spec(path)


def read_spec(path: Path) -> LabelSpec:
    """The specification in a file. Raises ValueError with every problem."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    content: dict = found if isinstance(found, dict) else {}
    problems = [
        f"{key}: missing" for key in ("answer", "labels", "instruction", "input", "source") if key not in content
    ]
    if problems:
        raise ValueError("\n".join(f"{path}: {problem}" for problem in problems))
    if content["answer"] != "label-line":
        problems.append(
            f"answer: {content['answer']!r}, only label-line is read from a file (marker: tasks/marked_label.py)"
        )
    labels = content["labels"] if isinstance(content["labels"], list) else []
    if len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        problems.append('labels: at least two texts (in YAML yes and no need quotes: "yes")')
    elif len({normal(label) for label in labels}) < len(labels) or any(normal(label) != label for label in labels):
        problems.append("labels: each once, in lower case, without a period at the end")
    raw = content["source"] if isinstance(content["source"], dict) else {}
    unknown = set(raw) - set(Source.__dataclass_fields__)
    problems += [f"source.{key}: no such key" for key in sorted(unknown)]
    columns = raw.get("columns", {})
    more = tuple(content.get("label_fields", ()))
    wanted = {*_fields(str(content["input"])), "label", *more}
    if set(columns) != wanted:
        problems.append(
            f"source.columns: names {', '.join(sorted(columns))}, the input and the label need {', '.join(sorted(wanted))}"
        )
    outside = sorted(set(raw.get("values", {}).values()) - set(labels), key=str)
    problems += [f"source.values: {value!r} is no label" for value in outside]
    if problems:
        raise ValueError("\n".join(f"{path}: {problem}" for problem in problems))
    source = Source(**{"values": {}, **raw, "skip": tuple(raw.get("skip", ()))})
    return LabelSpec(path.stem, tuple(labels), str(content["instruction"]), str(content["input"]), source, more)


def _fields(template: str) -> tuple[str, ...]:
    return tuple(name for _text, name, _spec, _conversion in string.Formatter().parse(template) if name)
