"""Picture of the reverse curriculum's claim: success of every start state over the steps, one panel per arm, and the held-out accuracy of all.

    python benchmarks/start_state_picture.py DIR [DIR ...] --out FILE.svg

DIR as for benchmarks/reverse_curriculum.py. A curve is the mean over the runs of an arm, three steps together.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from panels import panel, sheet
from reverse_curriculum import Run, order, read_run, run_dirs


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
        panels.append(
            panel(f"{arm}: right from each start state", [_stage_curve(group, stage) for stage in stages], last)
        )
    evaluated = [_mean_curve([run for run in runs if run.arm == arm]) for arm in arms]
    panels.append(panel("held-out accuracy from the question", evaluated, last))
    legends = [f"stage {s}" if s else "stage 0 (question)" for s in stages], [f"{arm} (last panel)" for arm in arms]
    return sheet(panels, legends)


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


if __name__ == "__main__":
    main()
