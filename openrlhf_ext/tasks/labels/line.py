"""Grading of label tasks: the last line of an answer is `Label: <x>`, and it is the only such line.

    The word is soup.
    Label: food

Case, blanks and one period are forgiven in the label, nothing else: a label outside the closed set (which is what a label that was cut
off becomes), a second label line or text after it leave the answer without a label, which counts as wrong and is reported apart.
"""

import re
from collections.abc import Mapping

from openrlhf_ext.tasks.base import Label, LabelError, Verdict, read_label, split_lines
from openrlhf_ext.tasks.labels.spec import load_spec
from openrlhf_ext.tasks.labels.toy import rationale_quality
from openrlhf_ext.tasks.options import OptionReader

_LABEL_LINE = re.compile(r"^[ \t]*label[ \t]*:(.*)$", re.IGNORECASE | re.MULTILINE)
FAULTS = ("label_missing", "label_repeated", "label_unknown", "label_not_last")


def label_line(label: str) -> str:
    """The canonical last line."""
    return f"Label: {label}"


class LabelLine:
    """Reward 1 for the right label, else 0. Option: max_response_chars. Label: {"label": "positive"}."""

    metric_keys: tuple[str, ...] = ("answered", *FAULTS)

    def __init__(self, name: str, options: Mapping[str, object]):
        reader = OptionReader(name, options)
        self.name = name
        self.spec = load_spec(name)
        self.max_response_chars = reader.integer("max_response_chars", 50_000, 1, 10_000_000)
        reader.finish()

    def verify(self, response: str, label: Label) -> Verdict:
        gold = self.gold(label)
        answer, fault = self.find(response)
        metrics = {"answered": float(answer is not None)} | {name: float(name == fault) for name in FAULTS}
        return Verdict(float(answer == gold), answer == gold, answer is not None, metrics)

    def find(self, response: str) -> tuple[str | None, str]:
        """(label, "") or (None, what is wrong with the answer)."""
        if len(response) > self.max_response_chars:
            return None, "label_missing"
        lines = list(_LABEL_LINE.finditer(response))
        if len(lines) != 1:
            return None, "label_repeated" if lines else "label_missing"
        if response[lines[0].end() :].strip():
            return None, "label_not_last"
        answer = self.spec.known(lines[0].group(1))
        return answer, "" if answer is not None else "label_unknown"

    def split(self, solution: str) -> list[str]:
        return split_lines(solution)

    def self_test(self) -> list[str]:
        problems = []
        for gold in self.spec.labels:
            label = self.gold_label(gold)
            if self.verify(f"Because of this.\n{label_line(gold.capitalize())}.\n", label).reward != 1:
                problems.append(f"gold does not earn 1: {gold!r}")
            junk = (
                gold,
                f"{label_line(gold)}\nLabel: other",
                f"{label_line(gold)} or not",
                f"{label_line(gold)}\nand so on",
                "Label:",
            )
            problems += [f"junk earns a reward: {text!r}" for text in junk if self.verify(text, label).reward > 0]
        return problems

    def gold_label(self, gold: str) -> dict[str, object]:
        """A label row with this gold label, for the self test."""
        return {"label": gold}

    def gold(self, label: Label) -> str:
        """The gold label. Raises LabelError where it is none of the set."""
        value = read_label(label).get("label")
        known = self.spec.known(value) if isinstance(value, str) else None
        if known is None:
            raise LabelError(
                f'{self.name} needs {{"label": one of {", ".join(self.spec.labels)}}}, found label={value!r}'
            )
        return known


class LabelToy(LabelLine):
    """The same, and whether the rationale names the deciding word. Label: {"label": "food", "word": "soup"}."""

    metric_keys = (*LabelLine.metric_keys, "rationale_quality")

    def verify(self, response: str, label: Label) -> Verdict:
        verdict = super().verify(response, label)
        word = read_label(label).get("word")
        if not isinstance(word, str):
            raise LabelError(f'label-toy needs {{"label": .., "word": the deciding word}}, found word={word!r}')
        quality = rationale_quality(response, word)
        return Verdict(
            verdict.reward, verdict.correct, verdict.parsed, verdict.metrics | {"rationale_quality": quality}
        )

    def gold_label(self, gold: str) -> dict[str, object]:
        return {"label": gold, "word": gold}
