"""Markdown table of the arms of the reverse curriculum's claim: held-out accuracy from the question, and rewarded rollouts.

    python benchmarks/reverse_curriculum.py DIR [DIR ...]

DIR is a run of `train reverse-curriculum` or holds some. SFT is what those runs measured before their first update, once per start model.
A rollout is rewarded where its answer was right; partial rewards do not count.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from openrlhf_ext.record.rows import is_run, read_metrics, read_rollouts, step_of
from openrlhf_ext.record.stats import mean_and_spread

ARMS = ("plain", "staged", "mixed", "adaptive")
STEP = re.compile(r"(\d+)([+-])(\d+)=(\d+)(?!\d)")
MODULUS = re.compile(r" mod (\d+)")


@dataclass(frozen=True)
class Run:
    """One finished run. Accuracies are shares; ``rewarded`` counts right answers in training, ``from_question`` those of stage 0."""

    arm: str
    start: str
    before: float
    after: float
    rollouts: int
    rewarded: float
    from_question: float
    questions: float
    step_accuracy: float | None
    minutes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="DIR")
    print(markdown([read_run(path) for path in run_dirs(parser.parse_args().paths)]))


def run_dirs(paths: Iterable[Path]) -> list[Path]:
    """The reverse-curriculum runs among the paths and the folders in them. Raises ValueError where there is none."""
    inside = (folder for path in paths for folder in ([path] if is_run(path) else sorted(path.iterdir())))
    found = [
        folder for folder in inside if folder.is_dir() and is_run(folder) and _section(folder, "reverse_curriculum")
    ]
    if not found:
        raise ValueError(f"no run of train reverse-curriculum in {', '.join(map(str, paths))}")
    return found


def read_run(path: Path) -> Run:
    """Raises ValueError for a run that was not evaluated before and after training."""
    rows = read_metrics(path)
    evaluated = [(step_of(row), value) for row in rows if (value := _accuracy(row)) is not None]
    if len(evaluated) < 2 or evaluated[0][0] != 0:
        raise ValueError(f"{path}: not evaluated before and after training")
    stages = [_stages(row) for row in rows]
    return Run(
        arm=str(_section(path, "reverse_curriculum")["mode"]),
        start=str(_section(path, "actor")["model_name_or_path"]),
        before=evaluated[0][1],
        after=evaluated[-1][1],
        rollouts=int(rows[-1].get("rollout/samples_total", 0)),
        rewarded=sum(right for step in stages for right, _ in step.values()),
        from_question=sum(step[0][0] for step in stages if 0 in step),
        questions=sum(step[0][1] for step in stages if 0 in step),
        step_accuracy=step_accuracy(read_rollouts(path, "eval_*_000000")),
        minutes=rows[-1].get("time/elapsed", 0.0) / 60,
    )


def markdown(runs: Sequence[Run]) -> str:
    """One row per arm, SFT first."""
    started = {run.start: run for run in runs}.values()
    lines = [
        "| arm | runs | accuracy, % | each run | change, points | rewarded rollouts | of them from the question | minutes |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
        _line("sft", [100 * run.before for run in started], "-", "-", "-", "-"),
    ]
    for arm in sorted({run.arm for run in runs}, key=_order):
        group = [run for run in runs if run.arm == arm]
        rewarded = f"{sum(run.rewarded for run in group):.0f} of {sum(run.rollouts for run in group)}"
        question = f"{sum(run.from_question for run in group):.0f} of {sum(run.questions for run in group):.0f}"
        change = _mean([100 * (run.after - run.before) for run in group], "+.1f")
        minutes = _mean([run.minutes for run in group], ".1f")
        lines.append(_line(arm, [100 * run.after for run in group], change, rewarded, question, minutes))
    steps = [run.step_accuracy for run in started if run.step_accuracy is not None]
    if steps:
        shares = ", ".join(f"{share:.2f}" for share in steps)
        lines += ["", f"Right lines of the start models' greedy answers: {shares}."]
    return "\n".join(lines)


def step_accuracy(rows: Iterable[Mapping[str, object]]) -> float | None:
    """Share of the chain's lines `a+b=c` whose own sum is right; None without such lines."""
    right = total = 0
    for row in rows:
        modulus = MODULUS.search(str(row["prompt"]))
        if modulus is None:
            continue
        for a, operation, b, result in STEP.findall(str(row["text"])):
            value = int(a) + int(b) if operation == "+" else int(a) - int(b)
            right += value % int(modulus[1]) == int(result)
            total += 1
    return right / total if total else None


def _stages(row: Mapping[str, float]) -> dict[int, tuple[float, float]]:
    """Stage -> (right answers, samples) of one training step."""
    numbers = [int(found[1]) for key in row if (found := re.fullmatch(r"rollout/stage_(\d+)/samples", key))]
    return {
        stage: (
            row[f"rollout/stage_{stage}/correct"] * row[f"rollout/stage_{stage}/samples"],
            row[f"rollout/stage_{stage}/samples"],
        )
        for stage in numbers
    }


def _accuracy(row: Mapping[str, float]) -> float | None:
    """On ``eval.dataset``; the set that is only logged ends in -test."""
    return next((row[key] for key in row if re.fullmatch(r"eval/(?!.*-test/)[^/]+/accuracy", key)), None)


def _section(path: Path, name: str) -> dict[str, object]:
    section = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")).get(name)
    return section if isinstance(section, dict) else {}


def _order(arm: str) -> int:
    return ARMS.index(arm) if arm in ARMS else len(ARMS)


def _line(arm: str, accuracies: Sequence[float], *cells: str) -> str:
    each = ", ".join(f"{value:.1f}" for value in accuracies)
    return f"| {' | '.join([arm, str(len(accuracies)), _mean(accuracies, '.1f'), each, *cells])} |"


def _mean(values: Sequence[float], form: str) -> str:
    mean, deviation = mean_and_spread(values)
    return f"{mean:{form}}" + ("" if deviation is None else f" ± {deviation:.1f}")


if __name__ == "__main__":
    main()
