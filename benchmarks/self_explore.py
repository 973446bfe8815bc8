"""Markdown tables of the claim of Self-Explore: held-out accuracy per arm, arm against arm on the same problems, how much training each arm
was, what exploring found, the 24-point game before and after DPO.

    python benchmarks/self_explore.py DIR

DIR is what examples/claims/self_explore.sh leaves: DIR/seed-N/eval and explored.jsonl.summary.json, the runs DIR/seed-N/ARM,
DIR/game24/seed-N/eval. Intervals over seeds are Student's; p is the exact paired test on the problems that only one of two models solves.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from openrlhf_ext.evaluate.statistics import compare
from openrlhf_ext.record.compare import NOT_A_SETTING
from openrlhf_ext.record.jsonl import read_lines
from openrlhf_ext.record.rows import is_run, read_metrics, step_of
from openrlhf_ext.record.settings import read_flat
from openrlhf_ext.record.stats import mean_and_spread, mean_interval, wilson

ARMS = ("sft", "rft", "outcome", "step")
GAME24_ARMS = ("sft", "dpo")
PAIRINGS = (("step", "outcome"), ("step", "rft"), ("outcome", "rft"), ("rft", "sft"))
"""(arm, arm it is compared with); the first is the claim."""
GAME24_PAIRINGS = (("dpo", "sft"),)
OF_THE_ARM = ("data.dataset",)
NAMES = {
    "sft": "SFT",
    "rft": "RFT",
    "outcome": "DPO on outcome pairs",
    "step": "DPO on step pairs",
    "dpo": "DPO on first wrong lines",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, metavar="DIR")
    print(markdown(parser.parse_args().path))


def markdown(path: Path) -> str:
    """All tables that the folder has data for. Raises ValueError where there is none."""
    seeds = sorted(path.glob("seed-*/eval"))
    games = sorted((path / "game24").glob("seed-*/eval"))
    if not seeds and not games:
        raise ValueError(f"{path}: no seed-*/eval: run examples/claims/self_explore.sh first")
    parts = []
    if seeds:
        runs = [folder.parent for folder in seeds]
        parts += [arms_table(seeds, ARMS, "rft"), paired_table(seeds, PAIRINGS), effort_table(runs, ARMS)]
        parts += [fairness(runs), explored_table(runs)]
    if games:
        parts += [arms_table(games, GAME24_ARMS, "sft"), paired_table(games, GAME24_PAIRINGS)]
        parts.append(effort_table([folder.parent for folder in games], GAME24_ARMS))
    return "\n\n".join(part for part in parts if part)


def arms_table(folders: Sequence[Path], arms: Sequence[str], start: str) -> str:
    """One row per arm; the change is against the model that the preferences start from, seed by seed."""
    lines = [
        f"| arm | seeds | accuracy, % | each seed | against {NAMES[start]}, points | unfinished, % | problems |",
        "|---|--:|--:|---|--:|--:|--:|",
    ]
    summaries = {arm: [read(folder / arm / "summary.json") for folder in folders] for arm in arms}
    for arm in arms:
        known = [(s, b) for s, b in zip(summaries[arm], summaries[start], strict=True) if s]
        if not known:
            continue
        accuracy = [100 * number(s, "accuracy") for s, _ in known]
        change = [100 * (number(s, "accuracy") - number(b, "accuracy")) for s, b in known if b]
        cells = [
            NAMES[arm],
            str(len(known)),
            spread(accuracy, ".1f"),
            ", ".join(f"{value:.1f}" for value in accuracy),
            "-" if arm == start or not change else spread(change, "+.1f"),
            spread([100 * number(s, "unfinished") for s, _ in known], ".1f"),
            f"{number(known[0][0], 'count'):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def paired_table(folders: Sequence[Path], pairings: Sequence[tuple[str, str]]) -> str:
    """One row per comparison of two models of the same seed on the same problems; empty where no graded answers are there."""
    lines = [
        "| greedy, same seed and problems | runs | difference, points | 95 % over seeds | only the second solves | only the first solves | p of each run |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for arm, other in pairings:
        both = [(solved(folder / other), solved(folder / arm)) for folder in folders]
        tests = [
            compare([first[problem] for problem in first], [second[problem] for problem in first])
            for first, second in both
            if first and first.keys() == second.keys()
        ]
        if not tests:
            continue
        points = [100 * test.difference for test in tests]
        interval = mean_interval(points)
        cells = [
            f"{NAMES[arm]} against {NAMES[other]}",
            str(len(tests)),
            spread(points, "+.1f"),
            f"{interval[0]:+.1f} .. {interval[1]:+.1f}" if interval else "-",
            str(sum(test.only_first for test in tests)),
            str(sum(test.only_second for test in tests)),
            ", ".join(f"{test.p_value:.2g}" for test in tests),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def effort_table(folders: Sequence[Path], arms: Sequence[str]) -> str:
    """How much training each arm was: equal passes over other data are not equal numbers of updates. Empty without runs."""
    lines = [
        "| training | runs | passes | updates | tokens, thousands | rate |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for arm in arms:
        runs = [folder / arm for folder in folders if is_run(folder / arm)]
        rows = [found[-1] for run in runs if (found := read_metrics(run))]
        if not rows:
            continue
        configs = [read_flat(run / "config.yaml") for run in runs]
        cells = [
            NAMES[arm],
            str(len(rows)),
            ", ".join(sorted({str(config.get("train.max_epochs", "-")) for config in configs})),
            spread([step_of(row) for row in rows], ".0f"),
            spread([number(row, "train/tokens_total") / 1000 for row in rows], ".0f"),
            ", ".join(sorted({f"{number(config, 'adam.lr'):g}" for config in configs})),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def fairness(folders: Sequence[Path]) -> str:
    """Whether the two runs of DPO of a seed differed in anything but their pairs, and how sure one accuracy is. Empty without those runs."""
    lines = []
    pairs = [[read_flat(folder / arm / "config.yaml") for arm in ("outcome", "step")] for folder in folders]
    pairs = [pair for pair in pairs if all(pair)]
    if pairs:
        keys = sorted({key for pair in pairs for one in pair for key in one} - {*NOT_A_SETTING, *OF_THE_ARM})
        apart = [key for key in keys if any(one.get(key) != other.get(key) for one, other in pairs)]
        told = f"differ in {', '.join(apart)}" if apart else "are equal in every setting, the start model included"
        lines.append(f"Besides their pairs the two runs of DPO of a seed {told}.")
    counts = {len(found) for folder in folders if (found := solved(folder / "eval" / "step"))}
    if len(counts) == 1:
        (count,) = counts
        low, high = wilson(count / 2, count)
        lines.append(
            f"One accuracy on {count} problems has a 95 % interval of up to {50 * (high - low):.1f} points either way; "
            "the problems are the same for all arms and seeds."
        )
    return " ".join(lines)


def explored_table(folders: Sequence[Path]) -> str:
    """What exploring found per seed; empty where nothing was explored."""
    lines = [
        "| seed | wrong solutions | pits | of them the answer | no pit | pits by step | tokens | share of the completions without early stop | prefix cache |",
        "|---|--:|--:|--:|--:|---|--:|--:|--:|",
    ]
    for folder in folders:
        found = read(folder / "explored.jsonl.summary.json")
        if not found:
            continue
        histogram = found["pit_histogram"]
        steps = histogram.items() if isinstance(histogram, Mapping) else ()
        cells = [
            folder.name.removeprefix("seed-"),
            *(f"{number(found, key):.0f}" for key in ("solutions", "pits", "answer_line_pits", "no_pit")),
            " ".join(f"{step}:{count}" for step, count in steps),
            f"{number(found, 'tokens'):.0f}",
            f"{number(found, 'share'):.2f}",
            f"{100 * number(found, 'cache_hit_rate'):.0f}%",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def solved(folder: Path) -> dict[object, bool]:
    """Problem -> whether the greedy answer is right; empty where there are no answers."""
    rows = read_lines(folder / "results.jsonl").rows
    return {row["problem_id"]: bool(row["correct"]) for row in rows if row["mode"] == "greedy"}


def read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def number(row: Mapping[str, object], key: str) -> float:
    value = row.get(key, 0)
    return float(value) if isinstance(value, (int, float)) else 0.0


def spread(values: Sequence[float], form: str) -> str:
    mean, deviation = mean_and_spread(values)
    return f"{mean:{form}}" + ("" if deviation is None else f" ± {deviation:.1f}")


if __name__ == "__main__":
    main()
