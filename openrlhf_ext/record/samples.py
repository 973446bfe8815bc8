"""Choosing rollouts that are worth reading: best, worst, typical, and the same problem before and after."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_ext.record.jsonl import parse_lines
from openrlhf_ext.record.rows import trailing_number
from openrlhf_ext.record.stats import paired_interval, sign_test

FILES_READ = 16
BYTES_READ = 1_500_000
EVAL_BYTES_READ = 16_000_000
NO_PART = ("correct", "parsed", "answered", "unfinished", "verifier_error", "verify_seconds")


@dataclass(frozen=True)
class Sample:
    """One kept response. `wrong_lines`: 0-based numbers of the lines of `text` that the task's checker calls wrong; None = not recorded."""

    step: int
    problem: str
    prompt: str
    label: str
    text: str | None
    reward: float | None
    correct: bool | None
    truncated: bool
    tokens: int | None
    parts: Mapping[str, float] = field(default_factory=dict)
    wrong_lines: frozenset[int] | None = None
    error: str = ""


@dataclass(frozen=True)
class Pair:
    """The same problem early and late."""

    early: Sample
    late: Sample


@dataclass(frozen=True)
class Paired:
    """Evaluation of the same problems at the first and the last evaluated step: what was gained and what was lost."""

    suite: str
    last_step: int
    problems: int
    gained: Sequence[Pair] = ()
    lost: Sequence[Pair] = ()

    def sentence(self) -> str:
        """Gains, losses and how sure that is, problem by problem."""
        gained, lost = len(self.gained), len(self.lost)
        low, high = paired_interval(gained, lost, self.problems)
        return (
            f"Problem by problem ({self.suite}, {self.problems} problems): {gained} solved only after, {lost} only before; "
            f"the change is {100 * (gained - lost) / self.problems:+.1f} points, paired 95 % interval {100 * low:+.1f} to {100 * high:+.1f} "
            f"(exact sign test p = {sign_test(gained, lost):.2g})."
        )


def sample_of(row: Mapping[str, object], step: int) -> Sample:
    """A rollout row with whatever it holds; absent parts become None."""
    extra = row.get("extra_logs", row.get("metrics"))
    parts = (
        {str(k): float(v) for k, v in extra.items() if isinstance(v, (int, float))} if isinstance(extra, dict) else {}
    )
    correct = row.get("correct", parts.get("correct", row.get("scores")))
    text, reward, wrong = row.get("text"), row.get("reward"), row.get("wrong_lines")
    ranges, tokens = row.get("action_ranges"), row.get("tokens")
    own = row.get("step")
    return Sample(
        step=int(own) if isinstance(own, (int, float)) else step,
        problem=str(row.get("problem_id", row.get("prompt", ""))),
        prompt=str(row.get("prompt", "")),
        label=label_text(row.get("label", "")),
        text=text if isinstance(text, str) else None,
        reward=float(reward) if isinstance(reward, (int, float)) else None,
        correct=bool(correct >= 0.5) if isinstance(correct, (int, float)) else None,
        truncated=bool(row.get("truncated", False)),
        tokens=sum(end - start for start, end in ranges)
        if isinstance(ranges, list) and ranges
        else tokens
        if isinstance(tokens, int)
        else None,
        parts={key: value for key, value in parts.items() if key not in NO_PART},
        wrong_lines=frozenset(int(n) for n in wrong) if isinstance(wrong, list) else None,
        error=str(row.get("verifier_error") or ""),
    )


def label_text(label: object) -> str:
    """The label for people: `answer` or the single value of a JSON label, else the label as it is."""
    if isinstance(label, str) and label.startswith("{"):
        try:
            label = json.loads(label)
        except ValueError:
            return str(label)
    if isinstance(label, dict):
        return ", ".join(f"{key} {value}" for key, value in label.items())
    return str(label)


def spread(items: Sequence[Path], count: int) -> list[Path]:
    """At most `count` items, evenly spaced, always with the first and the last."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def read_file(path: Path, limit: int) -> list[Sample]:
    """The samples of one rollouts file; of a file larger than `limit` bytes the whole lines of eight evenly spaced windows."""
    size = path.stat().st_size
    number = max(trailing_number(path), 0)
    with path.open("rb") as file:
        if size <= limit:
            return [sample_of(row, number) for row in parse_lines(file.read()).rows]
        rows: list[dict] = []
        window = limit // 8
        for index in range(8):
            file.seek(index * (size - window) // 7)
            data = file.read(window)
            start = data.find(b"\n") + 1 if index else 0
            rows += parse_lines(data[start : data.rfind(b"\n") + 1]).rows
    return [sample_of(row, number) for row in rows]


def training_files(run_dir: str | os.PathLike[str]) -> list[Path]:
    files = (Path(run_dir) / "rollouts").glob("*.jsonl")
    return sorted((f for f in files if not f.name.startswith("eval_")), key=lambda f: (trailing_number(f), f.name))


def eval_files(run_dir: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """Evaluation files by suite, in order of steps (`eval_<suite>_<step>.jsonl`)."""
    found: dict[str, list[Path]] = {}
    for path in sorted((Path(run_dir) / "rollouts").glob("eval_*.jsonl"), key=trailing_number):
        if matched := re.fullmatch(r"eval_(.+?)(?:_step)?_(\d+)", path.stem):
            found.setdefault(matched[1], []).append(path)
    return found


def first_of_each(samples: Iterable[Sample]) -> dict[str, Sample]:
    """The first sample of every problem (in an evaluation file: the greedy answer)."""
    firsts: dict[str, Sample] = {}
    for sample in samples:
        firsts.setdefault(sample.problem, sample)
    return firsts


def compare_evaluations(run_dir: str | os.PathLike[str]) -> list[Paired]:
    """For every suite evaluated at least twice with its answers kept: problems gained and lost between first and last."""
    results = []
    for suite, files in eval_files(run_dir).items():
        if len(files) < 2:
            continue
        early, late = (first_of_each(read_file(path, EVAL_BYTES_READ)) for path in (files[0], files[-1]))
        pairs = [Pair(early[problem], late[problem]) for problem in early if problem in late]
        if not pairs:
            continue
        results.append(
            Paired(
                suite,
                trailing_number(files[-1]),
                len(pairs),
                [pair for pair in pairs if not pair.early.correct and pair.late.correct],
                [pair for pair in pairs if pair.early.correct and not pair.late.correct],
            )
        )
    return results


def changed_in_training(samples: Sequence[Sample], count: int = 3) -> list[Pair]:
    """Problems sampled at different steps, with the largest change of reward between their best response at either end."""
    by_problem: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.reward is not None:
            by_problem.setdefault(sample.problem, []).append(sample)
    pairs = []
    for group in by_problem.values():
        first, last = min(s.step for s in group), max(s.step for s in group)
        if first < last:
            ends = [[s for s in group if s.step == step] for step in (first, last)]
            early, late = (sorted(end, key=reward_of)[len(end) // 2] for end in ends)
            pairs.append(Pair(early, late))
    pairs.sort(key=lambda pair: abs(reward_of(pair.late) - reward_of(pair.early)), reverse=True)
    return [pair for pair in pairs if reward_of(pair.late) != reward_of(pair.early)][:count]


def extremes(samples: Sequence[Sample], count: int = 3) -> dict[str, list[Sample]]:
    """Best, worst and typical responses among `samples`, each of another problem."""
    graded = sorted((s for s in samples if s.reward is not None), key=reward_of, reverse=True)
    if not graded:
        return {}
    middle = sorted(graded, key=lambda s: abs(reward_of(s) - reward_of(graded[len(graded) // 2])))
    chosen = {
        "best": distinct(graded, count),
        "typical": distinct(middle, count),
        "worst": distinct(reversed(graded), count),
    }
    return chosen


def distinct(samples: Iterable[Sample], count: int) -> list[Sample]:
    """The first `count` samples of different problems."""
    return list(first_of_each(samples).values())[:count]


def reward_of(sample: Sample) -> float:
    return sample.reward if sample.reward is not None else 0.0
