"""Picture of the reverse curriculum's claim: success of every start state over the steps, one panel per arm, and the held-out accuracy of all.

    python benchmarks/start_state_picture.py DIR [DIR ...] --out FILE.svg

DIR as for benchmarks/reverse_curriculum.py. A curve is the mean over the runs of an arm, three steps together.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reverse_curriculum import Run, order, read_run, run_dirs

from openrlhf_ext.record.svg import Scale, short

COLOURS = ("#1b6ca8", "#c8553d", "#3a8f5c", "#8a5fb0", "#b8860b", "#4f6272", "#c04e8a", "#2a9d9d")
WIDTH, HEIGHT, MARGIN = 300, 190, 34


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.svg")
    args = parser.parse_args()
    drawn = picture([read_run(path) for path in run_dirs(args.paths)])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(drawn, encoding="utf-8")


def picture(runs: Sequence[Run]) -> str:
    """SVG: one panel per arm with the success of every start state over the steps (mean over runs, three steps together), and one
    with the held-out accuracy of all arms; all panels on the scale 0 to 1."""
    arms = sorted({run.arm for run in runs}, key=order)
    last = max(step for run in runs for step in (len(run.stages), *(step for step, _ in run.curve)))
    stages = sorted({stage for run in runs for step in run.stages for stage in step})
    panels = []
    for arm in arms:
        group = [run for run in runs if run.arm == arm]
        curves = {f"{stage}": _stage_curve(group, stage) for stage in stages}
        panels.append((f"{arm}: right from each start state", list(curves.values())))
    panels.append(("held-out accuracy from the question", [_mean_curve([r for r in runs if r.arm == a]) for a in arms]))
    columns = 2
    rows = -(-len(panels) // columns)
    body = []
    for index, (title, lines) in enumerate(panels):
        x, y = (index % columns) * WIDTH, (index // columns) * HEIGHT
        body.append(f'<g transform="translate({x} {y})">{_panel(title, lines, last)}</g>')
    body.append(_legend([f"stage {s}" if s else "stage 0 (question)" for s in stages], rows * HEIGHT + 16))
    body.append(_legend([f"{arm} (last panel)" for arm in arms], rows * HEIGHT + 36))
    size = (
        f'viewBox="0 0 {columns * WIDTH} {rows * HEIGHT + 48}" width="{columns * WIDTH}" height="{rows * HEIGHT + 48}"'
    )
    style = 'font-family="sans-serif" font-size="11" fill="#333"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}><rect width="100%" height="100%" fill="#fff"/>{"".join(body)}</svg>\n'


def _stage_curve(group: Sequence[Run], stage: int, together: int = 3) -> list[tuple[float, float]]:
    """(step, share right) over all runs of a group; steps without this stage are left out."""
    points = []
    last = max(len(run.stages) for run in group)
    for start in range(0, last, together):
        found = [step[stage] for run in group for step in run.stages[start : start + together] if stage in step]
        if found:
            share = sum(right for right, _ in found) / max(sum(count for _, count in found), 1)
            points.append((start + (min(together, last - start) + 1) / 2, share))
    return points


def _mean_curve(group: Sequence[Run]) -> list[tuple[float, float]]:
    by_step: dict[int, list[float]] = {}
    for run in group:
        for step, share in run.curve:
            by_step.setdefault(step, []).append(share)
    return [(step, sum(shares) / len(shares)) for step, shares in sorted(by_step.items())]


def _panel(title: str, lines: Sequence[Sequence[tuple[float, float]]], last: int) -> str:
    x = Scale(0, max(last, 1), MARGIN, WIDTH - 12)
    y = Scale(0, 1, HEIGHT - MARGIN, 24)
    parts = [f'<text x="{MARGIN}" y="15" font-weight="bold">{title}</text>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path d="M{MARGIN} {y(share):.1f}H{WIDTH - 12}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 4}" y="{y(share) + 4:.1f}" text-anchor="end">{short(share)}</text>')
    for step in (0, last):
        parts.append(f'<text x="{x(step):.1f}" y="{HEIGHT - MARGIN + 14}" text-anchor="middle">{step}</text>')
    for colour, points in enumerate(lines):
        if points:
            route = " ".join(f"{x(step):.1f},{y(share):.1f}" for step, share in points)
            ink = COLOURS[colour % len(COLOURS)]
            parts.append(f'<polyline points="{route}" fill="none" stroke="{ink}" stroke-width="1.8"/>')
            parts += [f'<circle cx="{x(s):.1f}" cy="{y(v):.1f}" r="2" fill="{ink}"/>' for s, v in points]
    return "".join(parts)


def _legend(names: Sequence[str], y: int) -> str:
    step = (2 * WIDTH - MARGIN) // max(len(names), 1)
    return "".join(
        f'<rect x="{MARGIN + i * step}" y="{y - 8}" width="9" height="9" fill="{COLOURS[i % len(COLOURS)]}"/>'
        f'<text x="{MARGIN + i * step + 13}" y="{y}">{name}</text>'
        for i, name in enumerate(names)
    )


if __name__ == "__main__":
    main()
