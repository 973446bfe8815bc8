"""What training did to held-out problems: before, after and best, from the evaluation rows of a run's metrics."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openrlhf_ext.record.rows import read_metrics, step_of
from openrlhf_ext.record.stats import difference_interval, wilson

KEY = re.compile(r"eval/(?P<suite>.+)/(?P<measure>[^/]+)")
NAMES = {
    "accuracy": "greedy accuracy",
    "reward": "mean reward (greedy)",
    "unfinished": "unfinished share",
    "truncated": "cut off",
    "length": "mean length (tokens)",
}
FOOTNOTES = {
    ("reward",): "mean reward: of the greedy answers, by the task's default rules, whatever the run is trained on.",
    ("unfinished", "truncated"): (
        "unfinished: the answer reached no final line, stopped or not; cut off: the token limit stopped it. Most answers that were "
        "cut off are unfinished too."
    ),
}
"""Measures that stand in one table -> what tells them apart."""
SHARES = ("accuracy", "unfinished", "truncated")


@dataclass(frozen=True)
class Value:
    """A measure at one step; `interval` is its 95 % interval where it is a share of a known count."""

    step: int
    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Measure:
    """One line of the verdict. `share`: a fraction of problems, shown in percent. `best` is None where only two values exist."""

    key: str
    name: str
    share: bool
    before: Value
    after: Value | None
    best: Value | None

    def cell(self, value: Value | None) -> str:
        """The value as text, with its interval."""
        if value is None:
            return ""
        if not self.share:
            return f"{value.value:.3f}" if abs(value.value) < 10 else f"{value.value:.1f}"
        interval = f" [{100 * value.interval[0]:.0f}-{100 * value.interval[1]:.0f}]" if value.interval else ""
        return f"{100 * value.value:.1f} %{interval}"

    def change(self) -> str:
        """The difference after - before as text, empty where there is no after."""
        if self.after is None:
            return ""
        difference = self.after.value - self.before.value
        return f"{100 * difference:+.1f} points" if self.share else f"{difference:+.3g}"


@dataclass(frozen=True)
class Verdict:
    """All measures of one evaluation suite, accuracy first. `count`: problems evaluated greedily, None where it was not recorded."""

    suite: str
    count: int | None
    measures: tuple[Measure, ...]

    def footnotes(self) -> list[str]:
        """What the measures count, where their names do not say it."""
        shown = {measure.key for measure in self.measures}
        return [text for keys, text in FOOTNOTES.items() if shown.issuperset(keys)]

    def sentence(self) -> str:
        """What happened to greedy accuracy, in one sentence; empty without two evaluations."""
        accuracy = next((measure for measure in self.measures if measure.key == "accuracy"), None)
        if accuracy is None or accuracy.after is None:
            return ""
        before, after = accuracy.before, accuracy.after
        difference = after.value - before.value
        verb = "rose" if difference > 0 else "fell" if difference < 0 else "stayed"
        problems = f" on {self.count} held-out problems" if self.count else " on held-out problems"
        text = f"Greedy accuracy{problems} ({self.suite}) {verb} from {100 * before.value:.1f} % to {100 * after.value:.1f} %"
        if not self.count:
            return text + "."
        low, high = difference_interval(before.value, after.value, self.count, self.count)
        unclear = " No clear change: the interval holds 0." if low <= 0 <= high else ""
        return f"{text}: {100 * difference:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}.{unclear}"


def verdicts(rows: Sequence[Mapping[str, object]]) -> list[Verdict]:
    """One verdict per suite found in the metrics rows, in order of first appearance."""
    found: dict[str, dict[str, list[Value]]] = {}
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        for key, value in row.items():
            matched = KEY.fullmatch(key)
            if matched is None or not isinstance(value, (int, float)):
                continue
            suite, measure = matched["suite"], matched["measure"]
            if measure.endswith("count"):
                counts[suite, measure] = int(value)
                continue
            if measure == "verifier_errors" and not value:
                continue
            found.setdefault(suite, {}).setdefault(measure, []).append(Value(step_of(row), float(value)))
    return [
        Verdict(suite, counts.get((suite, "count")), _measures(suite, values, counts))
        for suite, values in found.items()
    ]


def _measures(
    suite: str, found: Mapping[str, list[Value]], counts: Mapping[tuple[str, str], int]
) -> tuple[Measure, ...]:
    sampled = sorted(key for key in found if key.startswith("pass@"))
    order = ["accuracy", *sampled, "reward", "unfinished", "truncated", "length"]
    order += sorted(key for key in found if key not in order)
    # pass@k is measured on a part of the problems and has a count of its own.
    own = {key: counts.get((suite, f"{key}_count" if key in sampled else "count")) for key in order}
    return tuple(_measure(key, found[key], own[key]) for key in order if key in found)


def _measure(key: str, values: list[Value], count: int | None) -> Measure:
    share = key in SHARES or key.startswith("pass@")
    if share and count:
        values = [Value(item.step, item.value, wilson(item.value * count, count)) for item in values]
    lower_is_better = key in ("unfinished", "truncated")
    judged = share or key == "reward"
    best = (
        (min if lower_is_better else max)(values, key=lambda item: item.value) if judged and len(values) > 2 else None
    )
    name = NAMES.get(key, key.replace("_", " "))
    if key.startswith("pass@") and count:
        name = f"{key} ({count} problems)"
    return Measure(key, name, share, values[0], values[-1] if len(values) > 1 else None, best)


def summary_table(run_dir: str | os.PathLike[str]) -> str:
    """The verdict as a short text table for the end of a run; a plain sentence where nothing was evaluated."""
    blocks = [_text_table(verdict) for verdict in verdicts(read_metrics(run_dir))]
    return "\n\n".join(blocks) if blocks else "no evaluation was recorded in this run"


def _text_table(verdict: Verdict) -> str:
    count = f", {verdict.count} problems" if verdict.count else ""
    first = verdict.measures[0]
    header = [f"{verdict.suite}{count}", f"before (step {first.before.step})"]
    header += [f"after (step {first.after.step})", "change", "best"] if first.after else []
    lines = [header]
    for measure in verdict.measures:
        best = f"{measure.cell(measure.best)} @ {measure.best.step}" if measure.best else ""
        lines.append([measure.name, measure.cell(measure.before), measure.cell(measure.after), measure.change(), best])
    columns = len(header) if any(line[-1] for line in lines[1:]) or len(header) < 5 else 4
    lines = [line[:columns] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(columns)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    remarks = [sentence] if (sentence := verdict.sentence()) else []
    remarks += verdict.footnotes()
    if columns == 5:
        remarks.append("best: picked on these same problems, so it flatters; model/ holds the last one.")
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:], *remarks])
