"""Markdown tables of the claim of Self-Explore: held-out accuracy per arm, what exploring found, the 24-point game before and after DPO.

    python benchmarks/self_explore.py DIR

DIR is what examples/claims/self_explore.sh leaves: DIR/seed-N/eval and explored.jsonl.summary.json, DIR/game24/seed-N/eval.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from openrlhf_ext.record.stats import mean_and_spread

ARMS = ("sft", "rft", "outcome", "step")
GAME24_ARMS = ("sft", "dpo")
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
        parts += [arms_table(seeds, ARMS, "rft"), explored_table([folder.parent for folder in seeds])]
    if games:
        parts.append(arms_table(games, GAME24_ARMS, "sft"))
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
