"""Markdown tables of RLLR's claim: label accuracy and rationale quality of the arms, the order that is claimed, arm against arm, what was equal
in all runs, and the reward models on held-out pairs.

    python benchmarks/rllr.py DIR [DIR ...]

DIR is a run of `train rllr` or holds some. SFT is what those runs measured before their first update. Greedy: one answer per held-out row;
sampled: several at temperature 1, which is what PPO trains. Quality is the task's measure of the rationale. Intervals over seeds are
Student's; p is the exact paired test on the greedy answers that only one of two runs of a seed has right.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_ext.evaluate.statistics import Comparison, compare
from openrlhf_ext.record.compare import NOT_A_SETTING
from openrlhf_ext.record.rows import read_metrics, read_rollouts, step_of
from openrlhf_ext.record.settings import read_flat, runs_with
from openrlhf_ext.record.stats import mean_and_spread, mean_interval, wilson

ARMS = ("rationale", "label", "mixed", "exact-match")
MEASURES = ("greedy accuracy", "sampled accuracy", "greedy quality", "sampled quality")
CLAIMED: tuple[tuple[str, str, str, str], ...] = (
    ("label", "rationale", "accuracy", "far above"),
    ("rationale", "label", "quality", "above"),
    ("mixed", "label", "accuracy", "at least"),
    ("mixed", "rationale", "accuracy", "at least"),
    ("mixed", "label", "quality", "at least"),
    ("mixed", "rationale", "quality", "at least"),
    ("label", "exact-match", "accuracy", "nothing claimed"),
)
"""(arm, arm it is compared with, what is measured, what the claim says of the first)."""


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
    good: list[bool] = field(default_factory=list)
    """Whether the greedy answer's rationale is good, per row; empty where the task does not say."""
    start: str = ""
    samples: int = 0
    steps: int = 0
    settings: dict[str, object] = field(default_factory=dict)
    """Dotted key -> value, without what may differ between the runs of one experiment."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="DIR")
    paths = parser.parse_args().paths
    runs = [read_run(path) for path in run_dirs(paths)]
    print("\n\n".join(part for part in (markdown(runs), order_table(runs), fairness(runs)) if part))
    ladders = [file for path in paths for file in sorted(path.glob("*/score.json"))]
    if ladders:
        print(f"\n{ladder(ladders)}")


def run_dirs(paths: Iterable[Path]) -> list[Path]:
    """The rllr runs among the paths and the folders in them. Raises ValueError where there is none."""
    found = runs_with("rllr.reward", paths)
    if not found:
        raise ValueError(f"no run of train rllr in {', '.join(map(str, paths))}")
    return found


def read_run(path: Path) -> Run:
    """Raises ValueError for a run that was not evaluated before and after training."""
    files = sorted((path / "rollouts").glob("eval_*.jsonl"))
    if len(files) < 2:
        raise ValueError(f"{path}: not evaluated before and after training")
    first, last = (list(read_rollouts(path, file.stem)) for file in (files[0], files[-1]))
    config = read_flat(path / "config.yaml")
    rows = read_metrics(path)
    return Run(
        arm=str(config["rllr.reward"]),
        seed=int(str(config["run.seed"])),
        before=measures(first),
        after=measures(last),
        greedy_before=[bool(row["correct"]) for row in first if row["mode"] == "greedy"],
        greedy=[bool(row["correct"]) for row in last if row["mode"] == "greedy"],
        minutes=rows[-1].get("time/elapsed", 0.0) / 60,
        good=_good(last),
        start=str(config.get("actor.model_name_or_path", "")),
        samples=int(rows[-1].get("rollout/samples_total", 0)),
        steps=step_of(rows[-1]),
        settings={key: value for key, value in config.items() if key not in (*NOT_A_SETTING, "rllr.reward")},
    )


def _good(rows: Sequence[Mapping]) -> list[bool]:
    greedy = [row["metrics"] for row in rows if row["mode"] == "greedy"]
    return (
        [found["rationale_quality"] == 1 for found in greedy] if all("rationale_quality" in f for f in greedy) else []
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


def order_table(runs: Sequence[Run]) -> str:
    """The claimed order, one row per comparison and way of answering: two arms of the same seed and start model. Empty without such runs."""
    lines = [
        "| claimed | answers | runs | difference, points | 95 % over seeds | only the second has it | only the first has it | p of each run |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for arm, other, measure, claim in CLAIMED:
        against = {(run.seed, run.start): run for run in runs if run.arm == other}
        pairs = [
            (run, against[run.seed, run.start]) for run in runs if run.arm == arm and (run.seed, run.start) in against
        ]
        for mode in ("greedy", "sampled"):
            points = [
                100 * (one - two)
                for first, second in pairs
                if (one := first.after[f"{mode} {measure}"]) is not None
                and (two := second.after[f"{mode} {measure}"]) is not None
            ]
            if points:
                tests = [_paired(second, first, measure) for first, second in pairs] if mode == "greedy" else []
                name = (
                    f"{measure}: {arm} {claim} {other}" if claim != "nothing claimed" else f"{measure}: {arm}, {other}"
                )
                lines.append(f"| {' | '.join([name, mode, *_difference(points, [t for t in tests if t])])} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _paired(first: Run, second: Run, measure: str) -> Comparison | None:
    one, two = (run.greedy if measure == "accuracy" else run.good for run in (first, second))
    return compare(one, two) if one and len(one) == len(two) else None


def _difference(points: Sequence[float], tests: Sequence[Comparison]) -> list[str]:
    mean, deviation = mean_and_spread(points)
    interval = mean_interval(points)
    cells = [str(len(points)), f"{mean:+.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")]
    cells.append(f"{interval[0]:+.1f} .. {interval[1]:+.1f}" if interval else "-")
    if not tests:
        return [*cells, "-", "-", "-"]
    counts = [str(sum(t.only_first for t in tests)), str(sum(t.only_second for t in tests))]
    return [*cells, *counts, ", ".join(f"{t.p_value:.2g}" for t in tests)]


def fairness(runs: Sequence[Run]) -> str:
    """What was equal in all runs and what was not, and how sure one figure is."""
    keys = sorted({key for run in runs for key in run.settings})
    apart = {key: sorted({repr(run.settings.get(key)) for run in runs}) for key in keys}
    told = [f"{key} ({', '.join(values)})" for key, values in apart.items() if len(values) > 1]
    work = sorted({(run.steps, run.samples) for run in runs})
    same = (
        f"{work[0][0]} steps and {work[0][1]} sampled answers each"
        if len(work) == 1
        else "steps and sampled answers differ: " + ", ".join(f"{steps} and {samples}" for steps, samples in work)
    )
    lines = [f"Besides arm and seed the runs differ in {'; '.join(told) or 'no setting'}; {same}."]
    models = ("actor.model_name_or_path", "rllr.label_model", "rllr.rationale_model")
    if all(len(apart.get(key, [""])) == 1 for key in models):
        lines.append(
            "One start model and one of each reward model serve all seeds: intervals over seeds hold for these models, whatever another training of them would give."
        )
    sizes = sorted({len(run.greedy) for run in runs if run.greedy})
    if len(sizes) == 1:
        low, high = wilson(sizes[0] / 2, sizes[0])
        lines.append(
            f"Greedy accuracy is on {sizes[0]} held-out rows: one figure has a 95 % interval of up to {50 * (high - low):.1f} points either way."
        )
    return " ".join(lines)


def ladder(files: Sequence[Path]) -> str:
    """One row per reward model and file of held-out pairs."""
    lines = [
        "| reward model | held-out pairs | accuracy, % | margin | calibration error | accuracy, Wilson 95 % | tau |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for file in files:
        for model, by_pairs in json.loads(file.read_text(encoding="utf-8")).items():
            for pairs, found in by_pairs.items():
                scale = found["scale"]
                cells = [Path(model).parent.name, f"{Path(pairs).stem} ({scale['pairs']})"]
                numbers = [f"{100 * scale['accuracy']:.1f} ± {100 * found['error']:.1f}", f"{scale['margin']:.2f}"]
                low, high = wilson(scale["accuracy"] * scale["pairs"], scale["pairs"])
                cells += [*numbers, f"{found['calibration_error']:.3f}", f"{100 * low:.1f} .. {100 * high:.1f}"]
                cells.append(f"{scale['tau']:.2f}")
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


if __name__ == "__main__":
    main()
