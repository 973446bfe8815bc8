"""Markdown tables of OREO's claim: what each way of learning from the same graded answers does to held-out accuracy, how much training it
was, how it differs from rejection sampling seed by seed and problem by problem, and what the search adds.

    python benchmarks/oreo.py DIR [DIR ...]

DIR is what `examples/claims/oreo.sh` wrote: answers-SEED.jsonl, the runs ARM-SEED, eval-SEED and search-SEED. Intervals over seeds are
Student's; p is the exact paired test on the problems that only one of two models solves.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_ext.evaluate.statistics import compare
from openrlhf_ext.record.jsonl import read_lines
from openrlhf_ext.record.rows import is_run, read_metrics, step_of
from openrlhf_ext.record.settings import read_flat
from openrlhf_ext.record.stats import mean_and_spread, mean_interval, wilson

ARMS = {
    "sft": "start model",
    "rejection": "rejection sampling",
    "dpo": "DPO",
    "kto": "KTO",
    "oreo-token": "OREO, token",
    "oreo-step": "OREO, step",
}
BASELINE = "rejection"


@dataclass(frozen=True)
class Effort:
    """What a run did with the answers. `rate`: of the policy; `tokens`: that went through its updates, repeats included."""

    passes: float | None
    updates: int
    tokens: int
    rate: float | None


@dataclass(frozen=True)
class Claim:
    """What one folder holds. `accuracy`: arm -> seed -> share of the held-out problems; `searches`: seed -> arm of the search -> figures."""

    problems: int
    answers: dict[str, tuple[int, float]]
    """Seed -> trajectories, share of failures."""
    accuracy: dict[str, dict[str, float]]
    searches: dict[str, dict[str, Mapping[str, float]]]
    used: dict[str, dict[str, int]] = field(default_factory=dict)
    """Kind of data made of the answers -> seed -> rows."""
    values: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    """OREO's arms -> seed -> lowest and highest value over the run."""
    solved: dict[str, dict[str, dict[object, bool]]] = field(default_factory=dict)
    """Arm -> seed -> held-out problem -> whether the greedy answer is right."""
    efforts: dict[str, dict[str, Effort]] = field(default_factory=dict)
    """Trained arm -> seed -> what its run did."""
    against_greedy: dict[str, dict[str, Mapping[str, float]]] = field(default_factory=dict)
    """Seed -> arm of the search -> its paired comparison with greedy answers."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="DIR")
    print("\n\n".join(markdown(read_claim(path)) for path in parser.parse_args().paths))


def read_claim(path: Path) -> Claim:
    """Raises ValueError where no evaluation is finished."""
    accuracy: dict[str, dict[str, float]] = {}
    problems = 0
    for seed, folder in _numbered(path, "eval", "summary.json"):
        models = json.loads(folder.read_text(encoding="utf-8"))["models"]
        for arm, figures in models.items():
            accuracy.setdefault(arm, {})[seed] = figures["accuracy"]
            problems = int(figures["count"])
    if not accuracy:
        raise ValueError(f"{path}: no finished evaluation (eval-SEED/summary.json)")
    answers = {}
    for file in sorted(path.glob("answers-*.jsonl")):
        if found := re.fullmatch(r"answers-(\w+)\.jsonl", file.name):
            rows = read_lines(file).rows
            answers[found[1]] = (len(rows), sum(row["scores"] != 1 for row in rows) / max(len(rows), 1))
    searches = {
        seed: json.loads(file.read_text(encoding="utf-8"))["arms"]
        for seed, file in _numbered(path, "search", "summary.json")
    }
    against = {
        seed: json.loads(file.read_text(encoding="utf-8")).get("against_first", {})
        for seed, file in _numbered(path, "search", "summary.json")
    }
    return Claim(
        problems,
        answers,
        accuracy,
        searches,
        _used(path),
        _values(path),
        solved={arm: {seed: _solved(path, arm, seed) for seed in seeds} for arm, seeds in accuracy.items()},
        efforts={arm: _efforts(path, arm) for arm in ARMS if arm != "sft"},
        against_greedy=against,
    )


def markdown(claim: Claim) -> str:
    """The data, the arms over the seeds, and the search."""
    lines = ["| data | " + " | ".join(f"seed {seed}" for seed in claim.answers) + " |"]
    lines.append("|---|" + "--:|" * len(claim.answers))
    lines.append(
        "| answers (failures) | " + " | ".join(f"{n} ({100 * f:.0f}%)" for n, f in claim.answers.values()) + " |"
    )
    for kind, rows in claim.used.items():
        lines.append(f"| {kind} | " + " | ".join(str(rows.get(seed, "-")) for seed in claim.answers) + " |")
    lines += [
        "",
        f"| greedy, {claim.problems} problems | runs | accuracy, % | each run | change, points | V, lowest .. highest |",
    ]
    lines.append("|---|--:|--:|---|--:|--:|")
    start = claim.accuracy.get("sft", {})
    for arm in sorted(claim.accuracy, key=_order):
        of_arm = claim.accuracy[arm]
        changes = [100 * (share - start[seed]) for seed, share in of_arm.items() if seed in start]
        extremes = claim.values.get(arm, {}).values()
        values = (
            f"{min(low for low, _ in extremes):.2f} .. {max(high for _, high in extremes):.2f}" if extremes else "-"
        )
        shares = [100 * share for share in of_arm.values()]
        cells = [ARMS.get(arm, arm), str(len(shares)), _mean(shares, ".1f"), ", ".join(f"{s:.1f}" for s in shares)]
        lines.append(
            f"| {' | '.join([*cells, '-' if arm == 'sft' or not changes else _mean(changes, '+.1f'), values])} |"
        )
    if claim.problems:
        low, high = wilson(claim.problems / 2, claim.problems)
        lines += [
            "",
            f"One figure on {claim.problems} problems has a 95 % interval of up to {50 * (high - low):.1f} points either way.",
        ]
    lines += _paired_lines(claim) + _effort_lines(claim)
    return "\n".join(lines + _search_lines(claim.searches) + _against_greedy_lines(claim.against_greedy))


def _paired_lines(claim: Claim) -> list[str]:
    """Every trained arm against rejection sampling from the answers of the same seed."""
    base = claim.accuracy.get(BASELINE, {})
    lines = [
        "",
        f"| against {ARMS[BASELINE]}, same seed | runs | difference, points | 95 % over seeds | only that solves | only it solves | p of each run |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for arm in sorted(set(claim.accuracy) - {BASELINE}, key=_order):
        points = [100 * (share - base[seed]) for seed, share in claim.accuracy[arm].items() if seed in base]
        if not points:
            continue
        interval = mean_interval(points)
        both = [
            (claim.solved.get(BASELINE, {}).get(seed, {}), rows) for seed, rows in claim.solved.get(arm, {}).items()
        ]
        tests = [
            compare([first[problem] for problem in first], [second[problem] for problem in first])
            for first, second in both
            if first and first.keys() == second.keys()
        ]
        cells = [ARMS.get(arm, arm), str(len(points)), _mean(points, "+.1f")]
        cells.append(f"{interval[0]:+.1f} .. {interval[1]:+.1f}" if interval else "-")
        cells += (
            [str(sum(t.only_first for t in tests)), str(sum(t.only_second for t in tests))] if tests else ["-", "-"]
        )
        lines.append(f"| {' | '.join([*cells, ', '.join(f'{t.p_value:.2g}' for t in tests) or '-'])} |")
    return lines if len(lines) > 3 else []


def _effort_lines(claim: Claim) -> list[str]:
    """Passes, updates and tokens of the trained arms: equal passes over the same answers are not equal numbers of updates."""
    lines = [
        "",
        "| training | runs | passes | updates | tokens, thousands | rate of the policy |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for arm in sorted(claim.efforts, key=_order):
        found = list(claim.efforts[arm].values())
        if not found:
            continue
        passes = sorted({effort.passes for effort in found if effort.passes is not None})
        rates = sorted({effort.rate for effort in found if effort.rate is not None})
        cells = [ARMS.get(arm, arm), str(len(found)), ", ".join(f"{p:g}" for p in passes) or "-"]
        cells += [_mean([effort.updates for effort in found], ".0f")]
        cells += [_mean([effort.tokens / 1000 for effort in found], ".0f"), ", ".join(f"{r:g}" for r in rates) or "-"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines if len(lines) > 3 else []


def _against_greedy_lines(against: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    arms = list(dict.fromkeys(arm for of_seed in against.values() for arm in of_seed))
    if not arms:
        return []
    lines = [
        "",
        "| search against greedy | runs | difference, points | 95 % over problems, each run | only greedy solves | only it solves | p of each run |",
        "|---|--:|--:|---|--:|--:|---|",
    ]
    for arm in arms:
        rows = [of_seed[arm] for of_seed in against.values() if arm in of_seed]
        cells = [arm, str(len(rows)), _mean([100 * row["difference"] for row in rows], "+.1f")]
        cells.append(", ".join(f"{100 * row['low']:+.1f} .. {100 * row['high']:+.1f}" for row in rows))
        cells += [f"{sum(row[key] for row in rows):.0f}" for key in ("only_first", "only_second")]
        lines.append(f"| {' | '.join([*cells, ', '.join(format(row['p_value'], '.2g') for row in rows)])} |")
    return lines


def _search_lines(searches: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    if not searches:
        return []
    arms = list(dict.fromkeys(arm for of_seed in searches.values() for arm in of_seed))
    lines = [
        "",
        "| search | runs | accuracy, % | right among all finished, % | some right, % | tokens per problem | seconds per problem |",
    ]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for arm in arms:
        rows = [of_seed[arm] for of_seed in searches.values() if arm in of_seed]

        def mean(key: str, scale: float, form: str, rows: Sequence[Mapping[str, float]] = rows) -> str:
            return _mean([scale * row[key] for row in rows], form) if all(key in row for row in rows) else "-"

        cells = [
            mean("accuracy", 100, ".1f"),
            mean("search/right_finished", 100, ".1f"),
            mean("search/found", 100, ".1f"),
        ]
        cells += [mean("search/generated", 1, ".0f"), mean("search/seconds", 1, ".2f")]
        lines.append(f"| {' | '.join([arm, str(len(rows)), *cells])} |")
    return lines


def _numbered(path: Path, kind: str, file: str) -> list[tuple[str, Path]]:
    """(seed, file) of the finished folders of a kind."""
    found = [(folder.name.removeprefix(f"{kind}-"), folder / file) for folder in sorted(path.glob(f"{kind}-*"))]
    return [(seed, place) for seed, place in found if place.is_file()]


def _used(path: Path) -> dict[str, dict[str, int]]:
    kinds = {"right answers for rejection sampling": "sft", "pairs for DPO": "pairs"}
    return {
        text: {
            file.name.removeprefix("answers-").removesuffix(f"-{ending}.jsonl"): len(read_lines(file).rows)
            for file in sorted(path.glob(f"answers-*-{ending}.jsonl"))
        }
        for text, ending in kinds.items()
    }


def _values(path: Path) -> dict[str, dict[str, tuple[float, float]]]:
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for arm in ("oreo-token", "oreo-step"):
        for run in sorted(path.glob(f"{arm}-*")):
            rows = read_metrics(run) if is_run(run) else []
            lows = [row["health/value_min"] for row in rows if row.get("health/value_min") is not None]
            highs = [row["health/value_max"] for row in rows if row.get("health/value_max") is not None]
            if lows and highs:
                found.setdefault(arm, {})[run.name.removeprefix(f"{arm}-")] = (min(lows), max(highs))
    return found


def _solved(path: Path, arm: str, seed: str) -> dict[object, bool]:
    """Problem -> right or not, of an arm's greedy answers; empty where they are not there."""
    rows = read_lines(path / f"eval-{seed}" / arm / "results.jsonl").rows
    return {row["problem_id"]: bool(row["correct"]) for row in rows if row["mode"] == "greedy"}


def _efforts(path: Path, arm: str) -> dict[str, Effort]:
    found: dict[str, Effort] = {}
    for run in sorted(path.glob(f"{arm}-*")):
        rows = read_metrics(run) if is_run(run) else []
        if not rows:
            continue
        config = read_flat(run / "config.yaml")
        rate, passes = config.get("actor.adam.lr", config.get("adam.lr")), config.get("train.max_epochs")
        found[run.name.removeprefix(f"{arm}-")] = Effort(
            passes=passes if isinstance(passes, (int, float)) else None,
            updates=step_of(rows[-1]),
            tokens=int(rows[-1].get("train/tokens_total") or 0),
            rate=None if rate is None else float(str(rate)),
        )
    return found


def _order(arm: str) -> int:
    return list(ARMS).index(arm) if arm in ARMS else len(ARMS)


def _mean(values: Sequence[float], form: str) -> str:
    mean, deviation = mean_and_spread(values)
    return f"{mean:{form}}" + ("" if deviation is None else f" ± {deviation:{form.lstrip('+')}}")


if __name__ == "__main__":
    main()
