"""Reading a run directory, also while it is being written: metrics, events and rollouts as rows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from openrlhf_ext.record.jsonl import read_lines


@dataclass
class Totals:
    """Cumulative cost of a run. Every metrics row carries it; a resumed run goes on from the last row it keeps.

    `rollout_tokens` and `rollout_samples` count generated tokens and responses, `train_tokens` tokens that went through a backward pass,
    `elapsed` seconds of wall time while the run was alive.
    """

    rollout_tokens: int = 0
    rollout_samples: int = 0
    train_tokens: int = 0
    elapsed: float = 0.0

    @classmethod
    def of(cls, row: Mapping[str, object]) -> Totals:
        """The totals that a metrics row states (zeros where it does not)."""

        def count(key: str) -> int:
            value = row.get(key)
            return int(value) if isinstance(value, (int, float)) else 0

        elapsed = row.get("time/elapsed")
        return cls(
            count("rollout/tokens_total"),
            count("rollout/samples_total"),
            count("train/tokens_total"),
            float(elapsed) if isinstance(elapsed, (int, float)) else 0.0,
        )

    def columns(self) -> dict[str, float]:
        """The same numbers under their metric names."""
        return {
            "rollout/tokens_total": self.rollout_tokens,
            "rollout/samples_total": self.rollout_samples,
            "train/tokens_total": self.train_tokens,
            "time/elapsed": round(self.elapsed, 3),
        }


def is_run(path: Path) -> bool:
    """Whether `path` holds the events of a run (whose first event is always a start)."""
    events = read_lines(path / "events.jsonl").rows
    return bool(events) and events[0].get("kind") == "start"


def step_of(row: Mapping[str, object]) -> int:
    """The step a row belongs to; rows without one count as step 0."""
    step = row.get("step")
    return int(step) if isinstance(step, (int, float)) else 0


def trailing_number(path: Path) -> int:
    """The number that a file or folder name ends in, e.g. 12 for `step_000012.jsonl`; -1 where there is none."""
    found = re.search(r"(\d+)$", path.name.removesuffix(".jsonl"))
    return int(found[1]) if found else -1


def read_metrics(path: str | os.PathLike[str]) -> list[dict]:
    """The rows of a run's metrics in order (`path`: the run directory or its metrics.jsonl); rows of one step are merged, a torn last line is left out."""
    merged: dict[int, dict] = {}
    for row in read_lines(inside(path, "metrics.jsonl")).rows:
        merged.setdefault(step_of(row), {}).update(row)
    return [merged[step] for step in sorted(merged)]


def read_events(path: str | os.PathLike[str]) -> list[dict]:
    """The events of a run in order (`path`: the run directory or its events.jsonl); a torn last line is left out."""
    return read_lines(inside(path, "events.jsonl")).rows


def read_rollouts(path: str | os.PathLike[str], pattern: str = "*") -> Iterator[dict]:
    """Every kept rollout row of a run, file by file in order of steps. `pattern` selects files, e.g. `eval_*`."""
    for file in sorted(
        (Path(path) / "rollouts").glob(f"{pattern}.jsonl"), key=lambda file: (trailing_number(file), file.name)
    ):
        yield from read_lines(file).rows


def inside(path: str | os.PathLike[str], name: str) -> Path:
    path = Path(path)
    return path / name if path.is_dir() else path
