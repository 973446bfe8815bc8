"""Reading tasks whose answer is one of a few labels behind a marker: the forms of the reverse-curriculum paper (arXiv:2402.05808).

    mnli-r3, snli-r3   ... so we cannot know. ### it is not possible to tell
    race               ... option B says the same. ### B
    boardgameqa        ... so the statement is disproved. #### disproved

The answer is what follows the last marker, without case, surrounding blanks and a trailing period. Only a label of the closed set counts
as an answer: words after it, another number of `#` or the label without its marker are not parsed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from openrlhf_ext.tasks.base import Label, LabelError, Verdict, read_label, split_lines
from openrlhf_ext.tasks.options import OptionReader


@dataclass(frozen=True)
class MarkedForm:
    """The marker before the answer and the closed set of labels, in lower case."""

    marker: str
    labels: tuple[str, ...]


_INFERENCE = MarkedForm("###", ("yes", "it is not possible to tell", "no"))
MARKED_FORMS: dict[str, MarkedForm] = {
    "mnli-r3": _INFERENCE,
    "snli-r3": _INFERENCE,
    "race": MarkedForm("###", ("a", "b", "c", "d")),
    "boardgameqa": MarkedForm("####", ("proved", "disproved", "unknown")),
}


class MarkedLabel:
    """Outcome reward 1 or 0, no partial reward. Option: max_response_chars. Label: {"label": "proved"}."""

    metric_keys = ("answered",)

    def __init__(self, name: str, options: Mapping[str, object]):
        reader = OptionReader(name, options)
        self.name = name
        self.form = MARKED_FORMS[name]
        self.max_response_chars = reader.integer("max_response_chars", 50_000, 1, 10_000_000)
        reader.finish()

    def verify(self, response: str, label: Label) -> Verdict:
        gold = self._gold(label)
        answer = self.find(response) if len(response) <= self.max_response_chars else None
        correct = answer == gold
        return Verdict(float(correct), correct, answer is not None, {"answered": float(answer is not None)})

    def find(self, response: str) -> str | None:
        """The label that the response ends with, or None where it ends with none of the closed set."""
        markers = list(re.finditer(rf"(?<!#){self.form.marker}(?!#)", response))
        answer = _plain(response[markers[-1].end() :]) if markers else ""
        return answer if answer in self.form.labels else None

    def split(self, solution: str) -> list[str]:
        return split_lines(solution)

    def self_test(self) -> list[str]:
        problems = []
        for gold in self.form.labels:
            if self.verify(f"Because of this. {self.form.marker} {gold.capitalize()}.", {"label": gold}).reward != 1:
                problems.append(f"gold does not earn 1: {gold!r}")
            for junk in (gold, f"#{self.form.marker} {gold}", f"{self.form.marker} {gold} or not", self.form.marker):
                if self.verify(junk, {"label": gold}).reward > 0:
                    problems.append(f"junk earns a reward: {junk!r}")
        return problems

    def _gold(self, label: Label) -> str:
        value = read_label(label).get("label")
        if not isinstance(value, str) or _plain(value) not in self.form.labels:
            raise LabelError(
                f'{self.name} needs {{"label": one of {", ".join(self.form.labels)}}}, found label={value!r}'
            )
        return _plain(value)


def _plain(text: str) -> str:
    return text.strip().rstrip(".").strip().lower()
