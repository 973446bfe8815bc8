"""Picture of training curves: a panel per metric, a line per arm, the mean over the arm's runs in ten parts of the run.

    python benchmarks/curves.py --arm token DIR/oreo-token-1 DIR/oreo-token-2 --arm step DIR/oreo-step-1 \\
        --metrics train/value_success train/value_failure --out FILE.svg
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from panels import Curve, panel, sheet

from openrlhf_ext.record.rows import read_metrics, step_of

PARTS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", nargs="+", action="append", required=True, metavar="NAME RUN")
    parser.add_argument("--metrics", nargs="+", required=True, metavar="KEY")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.svg")
    args = parser.parse_args()
    arms = {name: [read_metrics(run) for run in runs] for name, *runs in args.arm}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(picture(arms, args.metrics), encoding="utf-8")


def picture(arms: Mapping[str, Sequence[Sequence[Mapping[str, object]]]], metrics: Sequence[str]) -> str:
    """SVG of arm -> the metric rows of its runs. Raises ValueError where no run has a metric."""
    last = max((step_of(row) for runs in arms.values() for rows in runs for row in rows), default=0)
    panels = []
    for key in metrics:
        lines = [mean_curve(runs, key) for runs in arms.values()]
        points = [point for line in lines for point in line]
        if not points:
            raise ValueError(f"{key}: in none of the runs")
        low, high = min(0.0, *(value for _, value in points)), max(value for _, value in points)
        panels.append(panel(key, lines, last, (low, high if high > low else low + 1)))
    return sheet(panels, [list(arms)])


def mean_curve(runs: Sequence[Sequence[Mapping[str, object]]], key: str, parts: int = PARTS) -> Curve:
    """(middle step, mean of `key`) over all runs in up to `parts` stretches of equal length; stretches without a value are left out."""
    found = [
        (step_of(row), float(value)) for rows in runs for row in rows if isinstance(value := row.get(key), (int, float))
    ]
    last = max((step for step, _ in found), default=0)
    length = max(1, -(-last // parts))
    curve = []
    for start in range(0, last, length):
        inside = [(step, value) for step, value in found if start < step <= start + length]
        if inside:
            curve.append((fmean(step for step, _ in inside), fmean(value for _, value in inside)))
    return curve


if __name__ == "__main__":
    main()
