"""From runs to figures: one run shows its metrics side by side, several runs are laid over each other metric by metric."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openrlhf_ext.record.panels import COST, PANELS, Panel, label, leftover
from openrlhf_ext.record.rows import step_of
from openrlhf_ext.record.stats import wilson
from openrlhf_ext.record.svg import Chart, Line, line_chart, short, stacked_bars
from openrlhf_ext.record.view import View

X_LABELS = {"step": "step", "tokens": "generated tokens", "time": "minutes"}
MORE = "More metrics"


@dataclass(frozen=True)
class Figure:
    """A chart with its words. `legend`: (name, colour, latest value as text)."""

    section: str
    title: str
    text: str
    chart: Chart
    legend: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed, under one name and colour."""

    name: str
    colour: int
    views: tuple[View, ...]


def run_figures(view: View, x: str = "step") -> list[Figure]:
    """All figures of one run, section by section."""
    available = view.metric_keys()
    figures = []
    for panel in PANELS:
        keys = panel.chosen(available)
        if keys:
            figures.append(phases(view, panel, keys) if panel.stacked else curves(view, panel, keys, x))
    if speed := throughput(view):
        figures.append(speed)
    flat = constants(view)
    for key in leftover(available):
        if key not in flat:
            figures.append(curves(view, Panel(MORE, key, "", (key,)), [key], x))
    return figures


def constants(view: View) -> dict[str, float]:
    """Metrics without a panel that never changed: their value says all."""
    found = {key: set(view.series(key)[1]) for key in leftover(view.metric_keys())}
    return {key: value for key, values in found.items() if len(values) == 1 for value in values if value is not None}


def curves(view: View, panel: Panel, keys: Sequence[str], x: str) -> Figure:
    """The panel's metrics of one run in one chart."""
    lines, legend = [], []
    for colour, key in enumerate(keys):
        xs, ys = view.series(key, x)
        name = label(key, keys)
        low, high = spread(view, key, ys, x)
        lines.append(
            Line(
                name,
                xs,
                ys,
                colour,
                low,
                high,
                whiskers=key.startswith("eval/"),
                smoothed=panel.smoothed and not key.startswith("eval/"),
            )
        )
        latest = view.last(key)
        legend.append((name, colour % 8, "" if latest is None else short_value(latest)))
    chart = line_chart(lines, title=panel.title, x_label=X_LABELS[x], log=panel.log, zero=panel.zero)
    return Figure(panel.section, panel.title, panel.text, chart, tuple(legend))


def spread(
    view: View, key: str, ys: Sequence[float | None], x: str
) -> tuple[list[float | None] | None, list[float | None] | None]:
    """Lower and upper edges around a curve: one standard deviation of the reward, the 95 % interval of a held-out accuracy."""
    if key == "rollout/reward_mean":
        deviations = view.series("rollout/reward_std", x)[1]
        if len(deviations) != len(ys):
            return None, None
        both = list(zip(ys, deviations, strict=True))
        return (
            [None if y is None or d is None else y - d for y, d in both],
            [None if y is None or d is None else y + d for y, d in both],
        )
    count = view.last(f"{key.rpartition('/')[0]}/count") if key.endswith("/accuracy") else None
    if not count:
        return None, None
    intervals = [None if y is None or not 0 <= y <= 1 else wilson(y * count, int(count)) for y in ys]
    return [i and i[0] for i in intervals], [i and i[1] for i in intervals]


def phases(view: View, panel: Panel, keys: Sequence[str]) -> Figure:
    """Seconds per step by phase, with what `time/step` says beyond the phases as `other`."""
    rows = [row for row in view.rows if any(isinstance(row.get(key), (int, float)) for key in keys)]
    columns = {label(key): [seconds(row, key) for row in rows] for key in keys}
    named = [sum(values) for values in zip(*columns.values(), strict=True)]
    other = [max(0.0, seconds(row, "time/step") - total) for row, total in zip(rows, named, strict=True)]
    if sum(other) > 0.01 * sum(named):
        columns["other"] = other
    whole = sum(map(sum, columns.values())) or 1.0
    xs = [float(step_of(row)) for row in rows]
    chart = stacked_bars(xs, list(columns.items()), title=panel.title)
    legend = tuple(
        (name, i % 8, f"{100 * sum(values) / whole:.0f} %") for i, (name, values) in enumerate(columns.items())
    )
    return Figure(panel.section, panel.title, panel.text + " Percentages are shares of the whole run.", chart, legend)


def seconds(row: Mapping[str, object], key: str) -> float:
    value = row.get(key)
    return max(0.0, float(value)) if isinstance(value, (int, float)) else 0.0


def throughput(view: View) -> Figure | None:
    """Generated tokens per second of generation, derived from the cumulative count."""
    xs, ys, before = [], [], 0.0
    for row in view.rows:
        total = row.get("rollout/tokens_total")
        spent = seconds(row, "time/generate")
        if isinstance(total, (int, float)):
            if spent > 0 and total > before:
                xs.append(float(step_of(row)))
                ys.append((total - before) / spent)
            before = float(total)
    if len(xs) < 2:
        return None
    chart = line_chart([Line("tokens/s", xs, ys, 0)], title="Generation speed", x_label="step", zero=True)
    legend = (("tokens/s (median)", 0, short_value(statistics.median(ys))),)
    return Figure(COST, "Generation speed", "Tokens generated per second of generation.", chart, legend)


def comparison_figures(groups: Sequence[Group], x: str = "step") -> list[Figure]:
    """One figure per metric, all runs in it; runs of one group share a colour, with their mean and range drawn over them."""
    views = [view for group in groups for view in group.views]
    available = list(dict.fromkeys(key for view in views for key in view.metric_keys()))
    figures = []
    for panel in PANELS:
        keys = (
            ["time/step"]
            if panel.stacked and "time/step" in available
            else []
            if panel.stacked
            else panel.chosen(available)
        )
        for key in keys:
            figures.append(overlay(groups, panel, key, keys, x))
    for key in leftover(available):
        figures.append(overlay(groups, Panel(MORE, key, "", (key,)), key, [key], x))
    return figures


def overlay(groups: Sequence[Group], panel: Panel, key: str, keys: Sequence[str], x: str) -> Figure:
    """One metric of all groups in one chart."""
    lines, legend = [], []
    for group in groups:
        members = [
            (view, *view.series(key, x)) for view in group.views if any(y is not None for y in view.series(key, x)[1])
        ]
        if not members:
            continue
        several = len(members) > 1
        if several:
            lines.append(mean_line(group, [(xs, ys) for _, xs, ys in members], panel))
        lines += [
            Line(
                f"{group.name} seed {view.seed}" if several else group.name,
                xs,
                ys,
                group.colour,
                faint=several,
                smoothed=not several,
            )
            for view, xs, ys in members
        ]
        finals = [view.last(key) or 0.0 for view, _, _ in members]
        legend.append((group.name, group.colour % 8, short_value(statistics.fmean(finals))))
    title = panel.title if len(keys) == 1 else f"{panel.title}: {label(key, keys)}"
    chart = line_chart(lines, title=title, x_label=X_LABELS[x], log=panel.log, zero=panel.zero)
    return Figure(
        panel.section, title, panel.text.split(";")[0].rstrip(".") + "." if panel.text else "", chart, tuple(legend)
    )


def mean_line(group: Group, members: Sequence[tuple[Sequence[float], Sequence[float | None]]], panel: Panel) -> Line:
    """The mean over the group's runs at every x that at least two of them share, with their range as a band."""
    at: dict[float, list[float]] = {}
    for xs, ys in members:
        for x, y in zip(xs, ys, strict=True):
            if y is not None:
                at.setdefault(x, []).append(y)
    shared = sorted(x for x, values in at.items() if len(values) > 1)
    return Line(
        f"{group.name} mean",
        shared,
        [statistics.fmean(at[x]) for x in shared],
        group.colour,
        [min(at[x]) for x in shared],
        [max(at[x]) for x in shared],
        smoothed=panel.smoothed,
        raw=False,
    )


def short_value(value: float) -> str:
    """A final value for a legend."""
    return short(round(value, 3)) if 0.01 <= abs(value) < 1e4 else short(value)
