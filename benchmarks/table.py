"""Markdown table of the runs of one experiment: held-out figures before and after training, time to the first update, wall time.

The last column is the mean over the runs, with the standard deviation where there are at least two.

    python benchmarks/table.py RUN_DIR [RUN_DIR ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from openrlhf_ext.record.rows import read_metrics, step_of
from openrlhf_ext.record.stats import mean_and_spread
from openrlhf_ext.record.verdict import verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR")
    print(markdown(parser.parse_args().run_dirs))


def markdown(run_dirs: Sequence[Path]) -> str:
    """One column per run. Raises ValueError for a run that was not evaluated before and after training."""
    runs = [figures(path) for path in run_dirs]
    head = ["", *(path.name for path in run_dirs), *(["mean ± standard deviation"] if len(runs) > 1 else [])]
    lines = [head, ["---", *["--:"] * (len(head) - 1)]]
    for name in dict.fromkeys(name for run in runs for name in run):
        values = [run.get(name) for run in runs]
        known = [value for value in values if value is not None]
        cells = ["-" if value is None else _writer(name)(value) for value in values]
        lines.append([name, *cells, *([_summary(name, known)] if len(runs) > 1 else [])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figures(run_dir: Path) -> dict[str, float]:
    """Name -> number. Shares in percent, changes in points, times in seconds from the start of the run (after the checks)."""
    rows = read_metrics(run_dir)
    found = verdicts(rows)
    trained = [row for row in rows if step_of(row) > 0]
    if not found or found[0].measures[0].after is None or not trained:
        raise ValueError(f"{run_dir}: not evaluated before and after training: its configuration needs eval.dataset")
    result: dict[str, float] = {}
    for measure in found[0].measures:
        if measure.after is None:
            continue
        scale, unit = (100, ", %") if measure.share else (1, "")
        result[f"{measure.name} before{unit}"] = scale * measure.before.value
        result[f"{measure.name} after{unit}"] = scale * measure.after.value
        if measure.key == "accuracy":
            result["change, points"] = scale * (measure.after.value - measure.before.value)
    return result | {
        "steps": step_of(rows[-1]),
        "first update after, s": _first_update(rows[0], trained[0]),
        "whole run, s": rows[-1]["time/elapsed"],
    }


def _first_update(start: Mapping[str, float], first: Mapping[str, float]) -> float:
    """Seconds to the end of the first update: the evaluation of the start model and the weight sync of the first step come after it."""
    return first["time/elapsed"] - start.get("time/eval", 0.0) - first.get("time/sync", 0.0)


def _writer(name: str) -> Callable[[float], str]:
    if name == "change, points":
        return "{:+.1f}".format
    return "{:.1f}".format if name.endswith("%") else "{:.0f}".format if name.endswith(", s") else "{:.4g}".format


def _summary(name: str, values: Sequence[float]) -> str:
    mean, deviation = mean_and_spread(values)
    return _writer(name)(mean) + ("" if deviation is None else f" ± {deviation:.2g}")


if __name__ == "__main__":
    main()
