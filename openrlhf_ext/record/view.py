"""A run directory as the report sees it: facts, status, curves. Reads only, tolerates missing files and torn lines, and says what it skipped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import yaml

from openrlhf_ext.record.jsonl import read_lines
from openrlhf_ext.record.lock import is_held
from openrlhf_ext.record.rows import step_of
from openrlhf_ext.record.settings import flatten, masked

ENDINGS = {"finish": "finished", "failure": "failed", "interrupted": "interrupted"}
MODEL_KEYS = ("actor.model_name_or_path", "model.model_name_or_path", "critic.model_name_or_path")
X_AXES = {"step": None, "tokens": "rollout/tokens_total", "time": "time/elapsed"}
FILES = ("config.yaml", "plan.json", "metrics.jsonl", "events.jsonl")


@dataclass(frozen=True)
class View:
    """One run. `rows`: metrics rows merged by step, in order; `config`: dotted keys; `notes`: what could not be read."""

    path: Path
    config_text: str = ""
    config: Mapping[str, object] = field(default_factory=dict)
    plan: Mapping[str, object] = field(default_factory=dict)
    rows: Sequence[Mapping[str, object]] = ()
    events: Sequence[Mapping[str, object]] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def last_step(self) -> int:
        return step_of(self.rows[-1]) if self.rows else 0

    @property
    def status(self) -> str:
        """finished, failed, interrupted, running, or stopped (no ending was written and no process holds the run: killed)."""
        marks = [event.get("kind") for event in self.events if event.get("kind") in (*ENDINGS, "start", "resume")]
        if marks and marks[-1] in ENDINGS:
            return ENDINGS[str(marks[-1])]
        return "running" if is_held(self.path) else "stopped"

    @property
    def failure(self) -> str:
        """The message of the last failure if the run ended in one."""
        if self.status != "failed":
            return ""
        last = next(event for event in reversed(self.events) if event.get("kind") == "failure")
        return ": ".join(str(last[key]) for key in ("error", "message") if last.get(key))

    @property
    def elapsed(self) -> float:
        """Seconds of wall time, 0 where unknown."""
        known = self.last("time/elapsed")
        return known if known is not None else 0.0

    @property
    def started(self) -> datetime | None:
        return next((moment for event in self.events if (moment := moment_of(event))), None)

    def fact(self, key: str, *config_keys: str) -> str:
        """A fact from the start event, else from the first of the configuration keys that is set, else empty."""
        given = next(
            (event[key] for event in self.events if event.get("kind") in ("start", "resume") and event.get(key)), None
        )
        found = (
            given
            if given is not None
            else next((self.config[k] for k in config_keys if self.config.get(k) is not None), "")
        )
        return str(found)

    @property
    def method(self) -> str:
        return self.fact("method", "method", "run.method")

    @property
    def task(self) -> str:
        return self.fact("task", "task.name")

    @property
    def model(self) -> str:
        return self.fact("model", *MODEL_KEYS)

    @property
    def seed(self) -> str:
        return self.fact("seed", "run.seed")

    @property
    def device(self) -> str:
        return str(self.plan.get("device") or self.fact("device", "run.device"))

    def metric_keys(self) -> list[str]:
        """Metric keys with at least one number, in order of first appearance."""
        found = dict.fromkeys(key for row in self.rows for key, value in row.items() if "/" in key and is_number(value))
        return list(found)

    def series(self, key: str, x: str = "step") -> tuple[list[float], list[float | None]]:
        """The curve of `key` over steps, generated tokens or minutes. A recorded null (NaN) is a gap; rows without the key are left out."""
        xs: list[float] = []
        ys: list[float | None] = []
        for row in self.rows:
            if key in row:
                value = row[key]
                xs.append(x_value(row, x))
                ys.append(float(value) if isinstance(value, (int, float)) and is_number(value) else None)
        return xs, ys

    def last(self, key: str) -> float | None:
        """The latest number recorded under `key`."""
        values = [value for value in self.series(key)[1] if value is not None]
        return values[-1] if values else None


def moment_of(event: Mapping[str, object]) -> datetime | None:
    """When an event happened; None where its time cannot be read."""
    try:
        return datetime.fromisoformat(str(event.get("time", "")))
    except ValueError:
        return None


def x_value(row: Mapping[str, object], x: str) -> float:
    key = X_AXES[x]
    if key is None:
        return step_of(row)
    value = row.get(key)
    number = float(value) if isinstance(value, (int, float)) else 0.0
    return number / 60 if x == "time" else number


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and value == value and abs(value) != float("inf")


def read_view(path: str | os.PathLike[str]) -> View:
    """Read one run directory. Raises ValueError when it holds none of a run's files."""
    path = Path(path)
    if not any((path / name).exists() for name in FILES):
        raise ValueError(f"{path} is no run directory: it holds none of {', '.join(FILES)}")
    notes: list[str] = []
    config_text = masked((path / "config.yaml").read_text(errors="replace")) if (path / "config.yaml").exists() else ""
    metrics, events = (read_rows(path / name, notes) for name in ("metrics.jsonl", "events.jsonl"))
    merged: dict[int, dict[str, object]] = {}
    for row in metrics:
        merged.setdefault(step_of(row), {}).update(row)
    return View(
        path,
        config_text,
        flatten(parsed(config_text, "config.yaml", notes)),
        parsed((path / "plan.json").read_text(errors="replace"), "plan.json", notes)
        if (path / "plan.json").exists()
        else {},
        [merged[step] for step in sorted(merged)],
        events,
        tuple(notes),
    )


def read_rows(path: Path, notes: list[str]) -> list[dict]:
    """The readable rows of a JSON-lines file; what was skipped goes to `notes`."""
    lines = read_lines(path)
    if not path.exists():
        notes.append(f"{path.name} is missing")
    if lines.torn:
        notes.append(f"{path.name}: the last line is unfinished and was left out")
    if lines.bad:
        numbers = ", ".join(map(str, lines.bad[:5])) + (" ..." if len(lines.bad) > 5 else "")
        notes.append(f"{path.name}: {len(lines.bad)} unreadable lines were left out (line {numbers})")
    return lines.rows


def parsed(text: str, name: str, notes: list[str]) -> dict:
    """A YAML or JSON mapping; empty, with a note, where the text is something else."""
    try:
        value = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        notes.append(f"{name} could not be read: {str(error).splitlines()[0]}")
        return {}
    return value if isinstance(value, dict) else {}
