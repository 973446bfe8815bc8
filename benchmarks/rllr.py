"""Markdown tables of RLLR's claim: reward models on held-out pairs, and label accuracy and rationale quality of the arms.

    python benchmarks/rllr.py DIR [DIR ...]

DIR is a run of `train rllr` or holds some. SFT is what those runs measured before their first update. Greedy: one answer per held-out row;
sampled: several at temperature 1, which is what PPO trains. Quality is the task's measure of the rationale.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from openrlhf_ext.evaluate.statistics import compare
from openrlhf_ext.record.rows import is_run, read_metrics, read_rollouts
from openrlhf_ext.record.stats import mean_and_spread

ARMS = ("rationale", "label", "mixed", "exact-match")
MEASURES = ("greedy accuracy", "sampled accuracy", "greedy quality", "sampled quality")


@dataclass(frozen=True)
class Run:
    """One finished run; measures are shares, ``None`` where nothing was sampled. ``greedy``: right or not, per row of the held-out set."""

    arm: str
    seed: int
    before: dict[str, float | None]
    after: dict[str, float | None]
    greedy_before: list[bool]
    greedy: list[bool]
    minutes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="DIR")
    paths = parser.parse_args().paths
    print(markdown([read_run(path) for path in run_dirs(paths)]))
    ladders = [file for path in paths for file in sorted(path.glob("*/score.json"))]
    if ladders:
        print(f"\n{ladder(ladders)}")


def run_dirs(paths: Iterable[Path]) -> list[Path]:
    """The rllr runs among the paths and the folders in them. Raises ValueError where there is none."""
    inside = (folder for path in paths for folder in ([path] if is_run(path) else sorted(path.iterdir())))
    found = [folder for folder in inside if folder.is_dir() and is_run(folder) and "rllr" in _config(folder)]
    if not found:
        raise ValueError(f"no run of train rllr in {', '.join(map(str, paths))}")
    return found


def read_run(path: Path) -> Run:
    """Raises ValueError for a run that was not evaluated before and after training."""
    files = sorted((path / "rollouts").glob("eval_*.jsonl"))
    if len(files) < 2:
        raise ValueError(f"{path}: not evaluated before and after training")
    first, last = (list(read_rollouts(path, file.stem)) for file in (files[0], files[-1]))
    config = _config(path)
    rows = read_metrics(path)
    return Run(
        arm=str(config["rllr"]["reward"]),
        seed=int(config["run"]["seed"]),
        before=measures(first),
        after=measures(last),
        greedy_before=[bool(row["correct"]) for row in first if row["mode"] == "greedy"],
        greedy=[bool(row["correct"]) for row in last if row["mode"] == "greedy"],
        minutes=rows[-1].get("time/elapsed", 0.0) / 60,
    )


def measures(rows: Sequence[Mapping]) -> dict[str, float | None]:
    """Each measure's mean over the graded answers of its mode."""
    found: dict[str, float | None] = {}
    for mode in ("greedy", "sampled"):
        graded = [row for row in rows if row["mode"] == mode]
        quality = [row["metrics"]["rationale_quality"] for row in graded if "rationale_quality" in row["metrics"]]
        found[f"{mode} accuracy"] = sum(row["correct"] for row in graded) / len(graded) if graded else None
        found[f"{mode} quality"] = sum(quality) / len(quality) if quality else None
    return found


def markdown(runs: Sequence[Run]) -> str:
    """One row per arm, SFT first: mean and deviation over seeds, and the paired comparison with SFT of every run."""
    head = [
        "arm",
        "runs",
        *(f"{name}, %" for name in MEASURES),
        "each greedy accuracy",
        "p against SFT, paired",
        "minutes",
    ]
    lines = [f"| {' | '.join(head)} |", "|---|--:|" + "--:|" * len(MEASURES) + "---|---|--:|"]
    lines.append(_line("sft", 1, [runs[0].before], "-", "-", "-"))
    for arm in sorted({run.arm for run in runs}, key=lambda arm: ARMS.index(arm) if arm in ARMS else len(ARMS)):
        group = [run for run in runs if run.arm == arm]
        each = ", ".join(f"{100 * (run.after['greedy accuracy'] or 0):.1f}" for run in group)
        p = ", ".join(f"{compare(run.greedy_before, run.greedy).p_value:.2g}" for run in group)
        minutes = f"{sum(run.minutes for run in group) / len(group):.1f}"
        lines.append(_line(arm, len(group), [run.after for run in group], each, p, minutes))
    return "\n".join(lines)


def ladder(files: Sequence[Path]) -> str:
    """One row per reward model and file of held-out pairs."""
    lines = [
        "| reward model | held-out pairs | accuracy, % | margin | calibration error | tau |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for file in files:
        for model, by_pairs in json.loads(file.read_text(encoding="utf-8")).items():
            for pairs, found in by_pairs.items():
                scale = found["scale"]
                cells = [Path(model).parent.name, f"{Path(pairs).stem} ({scale['pairs']})"]
                numbers = [f"{100 * scale['accuracy']:.1f} ± {100 * found['error']:.1f}", f"{scale['margin']:.2f}"]
                cells += [*numbers, f"{found['calibration_error']:.3f}", f"{scale['tau']:.2f}"]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _line(arm: str, count: int, found: Sequence[Mapping[str, float | None]], *cells: str) -> str:
    values = [_mean([value for row in found if (value := row[name]) is not None]) for name in MEASURES]
    return f"| {' | '.join([arm, str(count), *values, *cells])} |"


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean, deviation = mean_and_spread([100 * value for value in values])
    return f"{mean:.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")


def _config(path: Path) -> dict:
    content = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


if __name__ == "__main__":
    main()
