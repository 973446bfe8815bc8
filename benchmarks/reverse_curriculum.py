"""Markdown tables of the reverse curriculum's claim: held-out accuracy from the question, rewarded rollouts, differences to plain RL seed by
seed and problem by problem, success of every start state, and whether the runs were equal in all but their mode.

    python benchmarks/reverse_curriculum.py DIR [DIR ...]

DIR is a run of `train reverse-curriculum` or holds some. SFT is what those runs measured before their first update, once per start model.
A rollout is rewarded where its answer was right; partial rewards do not count. Intervals over seeds are Student's; p is the exact paired
test on the problems that only one of two runs of a seed solves. Pictures: benchmarks/start_state_picture.py.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_ext.evaluate.statistics import compare
from openrlhf_ext.record.compare import NOT_A_SETTING
from openrlhf_ext.record.rows import read_metrics, read_rollouts, step_of
from openrlhf_ext.record.settings import read_flat, runs_with
from openrlhf_ext.record.stats import mean_and_spread, mean_interval, wilson

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
    seed: int | None = None
    tokens: int = 0
    sampled_lines: float | None = None
    """Right lines of what plain RL sampled in its first step: by the start model, from the question."""
    solved: dict[object, bool] = field(default_factory=dict)
    """Held-out problem -> whether the last evaluation's greedy answer is right."""
    stages: list[dict[int, tuple[float, float]]] = field(default_factory=list)
    """Per training step: stage -> (right answers, samples)."""
    curve: list[tuple[int, float]] = field(default_factory=list)
    """(step, held-out accuracy)."""
    settings: dict[str, object] = field(default_factory=dict)
    """Dotted key -> value, without what may differ between the runs of one experiment."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="DIR")
    print(markdown([read_run(path) for path in run_dirs(parser.parse_args().paths)]))


def run_dirs(paths: Iterable[Path]) -> list[Path]:
    """The reverse-curriculum runs among the paths and the folders in them. Raises ValueError where there is none."""
    found = runs_with("reverse_curriculum.mode", paths)
    if not found:
        raise ValueError(f"no run of train reverse-curriculum in {', '.join(map(str, paths))}")
    return found


def read_run(path: Path) -> Run:
    """Raises ValueError for a run that was not evaluated before and after training."""
    rows = read_metrics(path)
    evaluated = [(step_of(row), value) for row in rows if (value := _accuracy(row)) is not None]
    if len(evaluated) < 2 or evaluated[0][0] != 0:
        raise ValueError(f"{path}: not evaluated before and after training")
    config = read_flat(path / "config.yaml")
    seed, mode = config.get("run.seed"), str(config["reverse_curriculum.mode"])
    stages = [found for row in rows if (found := _stages(row))]
    return Run(
        arm=mode,
        start=str(config["actor.model_name_or_path"]),
        before=evaluated[0][1],
        after=evaluated[-1][1],
        rollouts=int(rows[-1].get("rollout/samples_total", 0)),
        rewarded=sum(right for step in stages for right, _ in step.values()),
        from_question=sum(step[0][0] for step in stages if 0 in step),
        questions=sum(step[0][1] for step in stages if 0 in step),
        step_accuracy=step_accuracy(read_rollouts(path, "eval_*_000000")),
        minutes=rows[-1].get("time/elapsed", 0.0) / 60,
        seed=seed if isinstance(seed, int) else None,
        tokens=int(rows[-1].get("rollout/tokens_total", 0)),
        sampled_lines=step_accuracy(read_rollouts(path, "step_000001")) if mode == "plain" else None,
        solved=_solved(path, evaluated[-1][0]),
        stages=stages,
        curve=evaluated,
        settings={key: value for key, value in config.items() if key not in NOT_A_SETTING},
    )


def markdown(runs: Sequence[Run]) -> str:
    """One row per arm, SFT first."""
    started = {run.start: run for run in runs}.values()
    lines = [
        "| arm | runs | accuracy, % | each run | change, points | rewarded rollouts | of them from the question | minutes |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
        _line("sft", [100 * run.before for run in started], "-", "-", "-", "-"),
    ]
    for arm in sorted({run.arm for run in runs}, key=order):
        group = [run for run in runs if run.arm == arm]
        rewarded = f"{sum(run.rewarded for run in group):.0f} of {sum(run.rollouts for run in group)}"
        question = f"{sum(run.from_question for run in group):.0f} of {sum(run.questions for run in group):.0f}"
        change = _mean([100 * (run.after - run.before) for run in group], "+.1f")
        minutes = _mean([run.minutes for run in group], ".1f")
        lines.append(_line(arm, [100 * run.after for run in group], change, rewarded, question, minutes))
    lines += [*_paired_lines(runs), *_stage_lines(runs), *_fairness_lines(runs)]
    steps = [run.step_accuracy for run in started if run.step_accuracy is not None]
    if steps:
        shares = ", ".join(f"{share:.2f}" for share in steps)
        lines += ["", f"Right lines of the start models' greedy answers: {shares}."]
    sampled = [run.sampled_lines for run in runs if run.sampled_lines is not None]
    if sampled:
        lines += [f"Right lines of plain RL's first samples: {', '.join(f'{share:.2f}' for share in sampled)}."]
    return "\n".join(lines)


def _paired_lines(runs: Sequence[Run]) -> list[str]:
    """Every arm against plain RL of the same seed: points, and the problems that only one of the two solves."""
    plain = {run.seed: run for run in runs if run.arm == "plain"}
    lines = [
        "",
        "| against plain, same seed | runs | difference, points | 95 % over seeds | only plain solves | only it solves | p of each run |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for arm in sorted({run.arm for run in runs} - {"plain"}, key=order):
        pairs = [(plain[run.seed], run) for run in runs if run.arm == arm and run.seed in plain]
        pairs = [(first, second) for first, second in pairs if first.start == second.start]
        if not pairs:
            continue
        points = [100 * (second.after - first.after) for first, second in pairs]
        interval = mean_interval(points)
        tests = [
            compare([first.solved[key] for key in first.solved], [second.solved[key] for key in first.solved])
            for first, second in pairs
            if first.solved and first.solved.keys() == second.solved.keys()
        ]
        cells = [arm, str(len(pairs)), _mean(points, "+.1f"), "-"]
        if interval:
            cells[-1] = f"{interval[0]:+.1f} .. {interval[1]:+.1f}"
        cells += (
            [str(sum(t.only_first for t in tests)), str(sum(t.only_second for t in tests))] if tests else ["-", "-"]
        )
        lines.append(f"| {' | '.join([*cells, ', '.join(f'{t.p_value:.2g}' for t in tests) or '-'])} |")
    return lines if len(lines) > 3 else []


def _stage_lines(runs: Sequence[Run]) -> list[str]:
    """Success of the sampled answers from every start state: first fifth of the steps that had it, then the last fifth."""
    known = sorted({stage for run in runs for step in run.stages for stage in step}, reverse=True)
    if not known:
        return []
    names = [f"stage {stage}" if stage else "stage 0, the question" for stage in known]
    lines = ["", f"| right in training, %: first fifth > last fifth | {' | '.join(names)} |"]
    lines.append("|---|" + "--:|" * len(known))
    for arm in sorted({run.arm for run in runs}, key=order):
        group = [run for run in runs if run.arm == arm]
        cells = [_fifths([[step[stage] for step in run.stages if stage in step] for run in group]) for stage in known]
        lines.append(f"| {' | '.join([arm, *cells])} |")
    return lines


def _fifths(visits: Sequence[Sequence[tuple[float, float]]]) -> str:
    """`visits`: per run the (right answers, samples) of the steps that had a stage."""
    firsts = [pair for steps in visits for pair in steps[: max(1, len(steps) // 5)]]
    lasts = [pair for steps in visits for pair in steps[-max(1, len(steps) // 5) :]]
    if not firsts:
        return "-"
    return " > ".join(
        f"{100 * sum(right for right, _ in part) / sum(count for _, count in part):.0f}" for part in (firsts, lasts)
    )


def _fairness_lines(runs: Sequence[Run]) -> list[str]:
    """What was equal and what was not; how sure a single figure is; what the start model gets right by chance."""
    lines = [""]
    keys = {key for run in runs for key in run.settings} - {"reverse_curriculum.mode"}
    apart = {key: {repr(run.settings.get(key)) for run in runs} for key in sorted(keys)}
    told = [f"{key} ({', '.join(sorted(values))})" for key, values in apart.items() if len(values) > 1]
    rollouts = sorted({run.rollouts for run in runs})
    same = f"{rollouts[0]} rollouts each" if len(rollouts) == 1 else f"rollouts differ: {rollouts}"
    lines.append(f"Besides mode and seed the runs differ in {'; '.join(told) or 'no setting'}; {same}.")
    tokens = {arm: [run.tokens for run in runs if run.arm == arm] for arm in sorted({r.arm for r in runs}, key=order)}
    if any(any(counts) for counts in tokens.values()):
        means = ", ".join(f"{arm} {sum(counts) / len(counts) / 1000:.0f}k" for arm, counts in tokens.items())
        lines.append(f"Tokens generated per run: {means}; from start states there is less to generate.")
    sizes = sorted({len(run.solved) for run in runs if run.solved})
    if len(sizes) == 1:
        low, high = wilson(sizes[0] / 2, sizes[0])
        lines.append(
            f"Accuracy is greedy on {sizes[0]} held-out problems: one figure has a 95 % interval of up to {50 * (high - low):.1f} points either way."
        )
    first = [run.stages[0][0] for run in runs if run.stages and 0 in run.stages[0]]
    if first:
        right, samples = (sum(pair[i] for pair in first) for i in (0, 1))
        lines.append(f"Right among the first step's samples from the question, all runs: {right:.0f} of {samples:.0f}.")
    return lines


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


def _solved(path: Path, step: int) -> dict[object, bool]:
    """Problem -> right or not, of the greedy answers to ``eval.dataset`` at ``step``; empty where the rollouts are not kept."""
    files = [
        f for f in (path / "rollouts").glob(f"eval_*_{step:06d}.jsonl") if not f.stem.endswith(f"-test_{step:06d}")
    ]
    rows = [row for file in files for row in read_rollouts(path, file.stem) if row.get("mode", "greedy") == "greedy"]
    return {row.get("problem_id", row["prompt"]): bool(row["correct"]) for row in rows}


def order(arm: str) -> int:
    return ARMS.index(arm) if arm in ARMS else len(ARMS)


def _line(arm: str, accuracies: Sequence[float], *cells: str) -> str:
    each = ", ".join(f"{value:.1f}" for value in accuracies)
    return f"| {' | '.join([arm, str(len(accuracies)), _mean(accuracies, '.1f'), each, *cells])} |"


def _mean(values: Sequence[float], form: str) -> str:
    mean, deviation = mean_and_spread(values)
    return f"{mean:{form}}" + ("" if deviation is None else f" ± {deviation:.1f}")


if __name__ == "__main__":
    main()
