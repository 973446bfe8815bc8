"""Line charts and stacked bars as inline SVG text.

Drawn here instead of by a plotting library because `report` must work after a bare install, the page must be one file without a network,
follow the reader's light or dark theme (colours are CSS classes), print, and answer the pointer (the numbers travel with the chart as JSON).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from openrlhf_ext.record.stats import quantile, smooth, smoothing_window

WIDTH, HEIGHT = 380, 212
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34
MAX_POINTS = 800
MARKED = 25
Number = float | None


@dataclass(frozen=True)
class Line:
    """One curve: `ys[i]` at `xs[i]` (None = gap). `low`/`high` of the same length draw a band, or whiskers where `whiskers` is set.

    `smoothed` adds a moving mean to long curves, `raw` keeps the values beside it; a `faint` line stays in the background.
    """

    label: str
    xs: Sequence[float]
    ys: Sequence[Number]
    colour: int = 0
    low: Sequence[Number] | None = None
    high: Sequence[Number] | None = None
    whiskers: bool = False
    smoothed: bool = True
    faint: bool = False
    raw: bool = True


@dataclass(frozen=True)
class Chart:
    """A drawn chart: `svg` to place in the page, `data` for the pointer, `notes` a reader must know (e.g. values outside the axis)."""

    svg: Markup
    data: dict[str, object]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        value = math.log10(max(value, self.low * 1e-3)) if self.log else value
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def describe(self) -> dict[str, float | bool]:
        return {"lo": self.low, "hi": self.high, "a": self.start, "b": self.end, "log": self.log}


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high], roughly `about` intervals."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / raw)))
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], with 2 and 5 times them where these are few, at most about six."""
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    whole = [10.0**power for power in powers if low <= 10.0**power <= high]
    if len(whole) > 2:
        return whole[:: max(1, math.ceil(len(whole) / 6))]
    return [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]


def short(value: float) -> str:
    """A number for an axis: 0.25, 12k, 3.1M, 1e-06."""
    size = abs(value)
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            unit = 1e3 if letter == "k" else limit
            return f"{value / unit:.3g}{letter}"
    if size >= 1e-3 or size == 0:
        return f"{value:.4g}"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def thin(xs: Sequence[float], ys: Sequence[Number], limit: int = MAX_POINTS) -> list[int]:
    """Indices of at most about `limit` points; of each bin the one furthest from the bin's mean, so that spikes survive."""
    if len(xs) <= limit:
        return list(range(len(xs)))
    size = math.ceil(len(xs) / limit)
    kept = []
    for start in range(0, len(xs), size):
        indices = [index for index in range(start, min(start + size, len(xs))) if ys[index] is not None]
        if indices:
            mean = sum(ys[index] or 0.0 for index in indices) / len(indices)
            kept.append(max(indices, key=lambda index: abs((ys[index] or 0.0) - mean)))
    return kept


def line_chart(
    lines: Sequence[Line], *, title: str, x_label: str = "step", log: bool = False, zero: bool = False
) -> Chart:
    """Draw curves over a common axis. `log` falls back to a linear axis where a value is not positive; `zero` makes the axis reach 0."""
    lines = [line for line in lines if any(y is not None for y in line.ys)]
    if not lines:
        raise ValueError(f"chart {title!r} has no value to draw")
    values = [y for line in lines for y in line.ys if y is not None]
    edges = [y for line in lines for side in (line.low, line.high) if side for y in side if y is not None]
    positive = [value for value in values if value > 0]
    log = log and len(positive) >= 0.9 * len(values) and max(positive) > 3 * min(positive)
    low, high, hidden = axis_range(positive if log else values, [] if log else edges, log=log, zero=zero)
    xs = [x for line in lines for x in line.xs]
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    x_scale = Scale(x_low, x_high, LEFT, WIDTH - RIGHT)
    y_scale = Scale(low, high, HEIGHT - BOTTOM, TOP, log)
    drawn = [_draw_line(line, x_scale, y_scale) for line in lines]
    body = Markup("").join(
        [_axes(x_scale, y_scale, x_label), Markup('<g clip-path="url(#plot)">'), *(d[0] for d in drawn)]
    )
    notes = (f"{hidden} of {len(values)} values lie outside the axis",) if hidden else ()
    data = {"x": {**x_scale.describe(), "label": x_label}, "y": y_scale.describe(), "s": [d[1] for d in drawn]}
    return Chart(_frame(body + Markup("</g>"), _describe(title, lines)), data, notes)


def axis_range(values: Sequence[float], edges: Sequence[float], *, log: bool, zero: bool) -> tuple[float, float, int]:
    """Lower and upper end of the axis, and how many values lie outside because a few outliers would flatten all the others."""
    low, high = min(values), max(values)
    hidden = 0
    if len(values) >= 20 and not log:
        lower, upper = -quantile([-value for value in values], 0.95), quantile(values, 0.95)
        room = max(upper - lower, 1e-12)
        if high > upper + 8 * room:
            high = upper + room / 2
        if low < lower - 8 * room:
            low = lower - room / 2
        hidden = sum(not low <= value <= high for value in values)
    if edges and not hidden:
        low, high = min(low, *edges), max(high, *edges)
    if log:
        return low / 1.3, high * 1.3, hidden
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-12 * max(1.0, abs(high)):
        half = abs(high) * 0.1
        return (low - half, high + half, hidden) if half else (0.0, 1.0, hidden)
    room = 0.06 * (high - low)
    return (low - room if low else low), high + room, hidden


def stacked_bars(
    xs: Sequence[float], parts: Sequence[tuple[str, Sequence[float]]], *, title: str, x_label: str = "step"
) -> Chart:
    """Bars of stacked non-negative parts, one bar per x; more than 60 are averaged in equal bins."""
    size = max(1, math.ceil(len(xs) / 60))
    bins = [range(start, min(start + size, len(xs))) for start in range(0, len(xs), size)]
    heights = [[sum(values[i] for i in chunk) / len(chunk) for chunk in bins] for _, values in parts]
    totals = [sum(column) for column in zip(*heights, strict=True)]
    high = max(totals) * 1.06 or 1.0
    if len(totals) >= 8 and max(totals) > 4 * quantile(totals, 0.85):
        high = 1.5 * quantile(totals, 0.85)
    hidden = sum(total > high for total in totals)
    y_scale = Scale(0.0, high, HEIGHT - BOTTOM, TOP)
    slot = (WIDTH - LEFT - RIGHT) / len(bins)
    x_scale = Scale(xs[0], xs[-1], LEFT + slot / 2, WIDTH - RIGHT - slot / 2) if len(bins) > 1 else None
    if x_scale is None:
        x_scale = Scale(xs[0] - 0.5, xs[0] + 0.5, LEFT, WIDTH - RIGHT)
    pieces, base = [], [0.0] * len(bins)
    for colour, column in enumerate(heights):
        for index, height in enumerate(column):
            top, bottom = y_scale(base[index] + height), y_scale(base[index])
            x = LEFT + slot * index + slot * 0.08
            if height > 0:
                shape = f'<rect class="f{colour % 8}" x="{x:.1f}" y="{top:.1f}" width="{slot * 0.84:.1f}" height="{bottom - top:.1f}"/>'
                pieces.append(Markup(shape))
            base[index] += height
    body = (
        _axes(x_scale, y_scale, x_label)
        + Markup('<g clip-path="url(#plot)">')
        + Markup("").join(pieces)
        + Markup("</g>")
    )
    centres = (
        [x_scale.low + (x_scale.high - x_scale.low) * (i + 0.5) / len(bins) for i in range(len(bins))]
        if size > 1
        else list(xs)
    )
    series = [
        {
            "n": name,
            "c": colour % 8,
            "x": [rounded(x) for x in centres],
            "y": [rounded(y) for y in column],
            "dot": False,
        }
        for colour, ((name, _), column) in enumerate(zip(parts, heights, strict=True))
    ]
    series.append({"n": "total", "c": 7, "x": series[0]["x"], "y": [rounded(y) for y in totals], "dot": False})
    notes = tuple([f"each bar is the mean of {size} steps"] if size > 1 else []) + tuple(
        [f"{hidden} bars are cut at the axis"] if hidden else []
    )
    names = ", ".join(name for name, _ in parts)
    data = {"x": {**x_scale.describe(), "label": x_label}, "y": y_scale.describe(), "s": series}
    return Chart(_frame(body, f"{title}: stacked bars of {names}"), data, notes)


def rounded(value: Number) -> Number:
    """Five significant digits: enough for a hover, half the bytes."""
    return None if value is None else float(f"{value:.5g}")


def _draw_line(line: Line, x_scale: Scale, y_scale: Scale) -> tuple[Markup, dict[str, object]]:
    count = sum(y is not None for y in line.ys)
    window = smoothing_window(count) if line.smoothed else 1
    means = smooth(line.ys, window) if window > 1 else None
    kept = thin(line.xs, line.ys)
    xs, ys = [line.xs[i] for i in kept], [line.ys[i] for i in kept]
    colour = line.colour % 8
    pieces = []
    if line.low and line.high:
        lows, highs = [line.low[i] for i in kept], [line.high[i] for i in kept]
        draw = _whiskers if line.whiskers else _band
        pieces.append(draw(xs, lows, highs, x_scale, y_scale, colour))
    raw_class = f"l s{colour}" + (" raw" if means else "") + (" faint" if line.faint else "")
    if line.raw or means is None:
        pieces.append(_path(xs, ys, x_scale, y_scale, raw_class))
    if means:
        pieces.append(
            _path(xs, [means[i] for i in kept], x_scale, y_scale, f"l s{colour}" + (" faint" if line.faint else ""))
        )
    elif count <= MARKED and not line.faint:
        dots = [
            f'<circle class="f{colour}" cx="{x_scale(x):.1f}" cy="{y_scale(y):.1f}" r="2.6"/>'
            for x, y in zip(xs, ys, strict=True)
            if y is not None
        ]
        pieces.append(Markup("".join(dots)))
    data: dict[str, object] = {
        "n": line.label,
        "c": colour,
        "x": [rounded(x) for x in xs],
        "y": [rounded(y) for y in ys],
        "dot": True,
    }
    if means:
        data["m"] = [rounded(means[i]) for i in kept]
    if line.whiskers and line.low and line.high:
        data["r"] = [[rounded(line.low[i]), rounded(line.high[i])] for i in kept]
    return Markup("").join(pieces), data


def _path(xs: Sequence[float], ys: Sequence[Number], x_scale: Scale, y_scale: Scale, css: str) -> Markup:
    steps, pen_down = [], False
    for x, y in zip(xs, ys, strict=True):
        if y is None:
            pen_down = False
            continue
        steps.append(f"{'L' if pen_down else 'M'}{x_scale(x):.1f} {y_scale(y):.1f}")
        pen_down = True
    return Markup(f'<path class="{css}" d="{"".join(steps)}"/>')


def _band(
    xs: Sequence[float], low: Sequence[Number], high: Sequence[Number], x_scale: Scale, y_scale: Scale, colour: int
) -> Markup:
    known = [(x, a, b) for x, a, b in zip(xs, low, high, strict=True) if a is not None and b is not None]
    outline = [(x, b) for x, _, b in known] + [(x, a) for x, a, _ in reversed(known)]
    points = " ".join(f"{x_scale(x):.1f},{y_scale(y):.1f}" for x, y in outline)
    return Markup(f'<polygon class="band f{colour}" points="{points}"/>')


def _whiskers(
    xs: Sequence[float], low: Sequence[Number], high: Sequence[Number], x_scale: Scale, y_scale: Scale, colour: int
) -> Markup:
    bars = [
        f"M{x_scale(x):.1f} {y_scale(a):.1f}V{y_scale(b):.1f}"
        for x, a, b in zip(xs, low, high, strict=True)
        if a is not None and b is not None
    ]
    return Markup(f'<path class="whisker s{colour}" d="{"".join(bars)}"/>')


def _axes(x_scale: Scale, y_scale: Scale, x_label: str) -> Markup:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    pieces = []
    marks = log_ticks(y_scale.low, y_scale.high) if y_scale.log else ticks(y_scale.low, y_scale.high)
    for value in marks:
        y = y_scale(value)
        pieces.append(
            f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/><text class="t end" x="{LEFT - 6}" y="{y + 3.8:.1f}">{short(value)}</text>'
        )
    for value in ticks(x_scale.low, x_scale.high, 6):
        if x_label == "step" and value != int(value):
            continue
        x = x_scale(value)
        pieces.append(
            f'<path class="tick" d="M{x:.1f} {bottom}v4"/><text class="t mid" x="{x:.1f}" y="{bottom + 15}">{short(value)}</text>'
        )
    pieces.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
    return Markup("".join(pieces)) + Markup('<text class="t end label" x="{}" y="{}">{}</text>').format(
        right, HEIGHT - 5, x_label
    )


def _frame(body: Markup, description: str) -> Markup:
    cursor = Markup('<path class="cursor" d="M0 {}V{}"/><g class="dots"></g>').format(TOP, HEIGHT - BOTTOM)
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
        WIDTH, HEIGHT, escape(description), body, cursor
    )


def _describe(title: str, lines: Sequence[Line]) -> str:
    parts = []
    for line in lines:
        known = [(x, y) for x, y in zip(line.xs, line.ys, strict=True) if y is not None]
        (x0, y0), (x1, y1) = known[0], known[-1]
        parts.append(f"{line.label} {y0:.4g} at {x0:.6g}, {y1:.4g} at {x1:.6g}")
    return f"{title}: " + "; ".join(parts)
