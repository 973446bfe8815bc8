"""Small panels with lines for the pictures of the claims, two in a row, as one SVG."""

from __future__ import annotations

from collections.abc import Sequence

from openrlhf_ext.record.svg import Scale, short, ticks

COLOURS = ("#1b6ca8", "#c8553d", "#3a8f5c", "#8a5fb0", "#b8860b", "#4f6272", "#c04e8a", "#2a9d9d")
WIDTH, HEIGHT, MARGIN, COLUMNS = 300, 190, 34, 2

Curve = Sequence[tuple[float, float]]


def panel(title: str, lines: Sequence[Curve], last: float, values: tuple[float, float] = (0.0, 1.0)) -> str:
    """Curves of (step, value) over the steps 0 to `last`, on an axis from the lowest to the highest of `values`; each in the next colour."""
    x = Scale(0, max(last, 1), MARGIN, WIDTH - 12)
    y = Scale(*values, HEIGHT - MARGIN, 24)
    parts = [f'<text x="{MARGIN}" y="15" font-weight="bold">{title}</text>']
    for value in ticks(*values):
        parts.append(f'<path d="M{MARGIN} {y(value):.1f}H{WIDTH - 12}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 4}" y="{y(value) + 4:.1f}" text-anchor="end">{short(value)}</text>')
    for step in (0, last):
        parts.append(f'<text x="{x(step):.1f}" y="{HEIGHT - MARGIN + 14}" text-anchor="middle">{short(step)}</text>')
    for colour, points in enumerate(lines):
        if points:
            route = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
            ink = COLOURS[colour % len(COLOURS)]
            parts.append(f'<polyline points="{route}" fill="none" stroke="{ink}" stroke-width="1.8"/>')
            parts += [f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="2" fill="{ink}"/>' for step, value in points]
    return "".join(parts)


def sheet(panels: Sequence[str], legends: Sequence[Sequence[str]]) -> str:
    """The SVG with all panels and below them a line of coloured names for each legend."""
    bottom = -(-len(panels) // COLUMNS) * HEIGHT
    body = [
        f'<g transform="translate({index % COLUMNS * WIDTH} {index // COLUMNS * HEIGHT})">{drawn}</g>'
        for index, drawn in enumerate(panels)
    ]
    body += [_legend(names, bottom + 16 + 20 * line) for line, names in enumerate(legends)]
    width, height = COLUMNS * WIDTH, bottom + 8 + 20 * len(legends)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    style = 'font-family="sans-serif" font-size="11" fill="#333"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}><rect width="100%" height="100%" fill="#fff"/>{"".join(body)}</svg>\n'


def _legend(names: Sequence[str], y: int) -> str:
    step = (COLUMNS * WIDTH - MARGIN) // max(len(names), 1)
    return "".join(
        f'<rect x="{MARGIN + i * step}" y="{y - 8}" width="9" height="9" fill="{COLOURS[i % len(COLOURS)]}"/>'
        f'<text x="{MARGIN + i * step + 13}" y="{y}">{name}</text>'
        for i, name in enumerate(names)
    )
