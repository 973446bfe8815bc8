"""The words of this room: a task asks, verifies and splits; a verdict says what a response earned."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

Label = str | Mapping[str, object]


class LabelError(ValueError):
    """A label that the task cannot read: broken data, not a bad response."""


@dataclass(frozen=True)
class Verdict:
    """What a response earned."""

    reward: float
    correct: bool
    parsed: bool  # whether an answer could be read from the response at all
    metrics: dict[str, float]  # the keys are the task's `metric_keys`, always all of them


class Task(Protocol):
    """A verifiable task. Implementations are picklable and hold no state between calls."""

    name: str

    @property
    def metric_keys(self) -> tuple[str, ...]:
        """The keys of every verdict's metrics, in order."""
        ...

    def verify(self, response: str, label: Label) -> Verdict:
        """Grades any text without raising; junk earns zero and counts as not parsed. Raises LabelError for a bad label."""
        ...

    def self_test(self) -> list[str]:
        """Problems with the verifier itself: a gold answer must earn full marks, junk nothing."""
        ...

    def split(self, solution: str) -> list[str]:
        """The steps of a solution; joining them gives the solution back."""
        ...


def read_label(label: Label) -> Mapping[str, object]:
    """The label as a mapping. Raises LabelError unless it is a JSON object."""
    fields: object = label
    if isinstance(label, str):
        try:
            fields = json.loads(label)
        except (ValueError, RecursionError) as error:
            raise LabelError(f"label {label[:80]!r} is not JSON: {error}") from error
    if not isinstance(fields, Mapping):
        raise LabelError(f"label must be a JSON object, found {type(fields).__name__}: {str(fields)[:80]!r}")
    return fields


def split_lines(text: str) -> list[str]:
    """Lines with their newline; only "\\n" ends a line, so joining them gives the text back."""
    pieces = text.split("\n")
    lines = [piece + "\n" for piece in pieces[:-1]]
    return [*lines, pieces[-1]] if pieces[-1] else lines
