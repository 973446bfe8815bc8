"""The run directory: configuration, plan, metrics, events, rollouts and checkpoints of one run, written so that a kill loses nothing.

Layout and row formats: docs/formats.md. One process owns a run (it holds `.lock`); workers of the same run may `RunDir.open` it and append.
"""

from __future__ import annotations

import contextlib
import json
import numbers
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from openrlhf_ext.record.jsonl import (
    append_row,
    disk_errors,
    dumps,
    finite,
    plain,
    read_lines,
    repair_tail,
    write_atomic,
)
from openrlhf_ext.record.lock import RunDirBusy, hold
from openrlhf_ext.record.rows import (
    Totals,
    is_run,
    read_events,
    read_metrics,
    read_rollouts,
    step_of,
    trailing_number,
)
from openrlhf_ext.record.settings import config_changes, without_secrets

PREFIXES = ("rollout/", "train/", "eval/", "time/", "memory/", "health/")
OURS = (
    "config.yaml",
    "plan.json",
    "metrics.jsonl",
    "events.jsonl",
    "rollouts",
    "checkpoints",
    "model",
    "best",
    "value",
    "reference.safetensors",
    "tensorboard",
    "wandb",
    "report.html",
)


__all__ = ["RunDir", "RunDirBusy", "RunDirExists", "Totals", "read_events", "read_metrics", "read_rollouts"]


class RunDirExists(ValueError):
    """The directory holds another run (or something that is no run); the message names the fix."""


class RunDir:
    """One run on disk. Make it with `RunDir.create` (owner) or `RunDir.open` (a worker of the same run).

    `resumed` says whether earlier rows were found. As a context manager it records how the run ended: `finish`, `failure` or `interrupted`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.resumed = False
        self.totals = Totals()
        self._clock = time.monotonic()
        self._last_step = -1
        self._lock: int | None = None
        self._warned: set[str] = set()

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def best(self) -> Path:
        """Model of the best evaluation, where the run keeps one."""
        return self.path / "best"

    @property
    def value(self) -> Path:
        """Value network at the end, where the method trains one to keep."""
        return self.path / "value"

    @property
    def reference(self) -> Path:
        """Log-probs of the reference model on the training data, where the method stores them."""
        return self.path / "reference.safetensors"

    @property
    def rollouts(self) -> Path:
        return self.path / "rollouts"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def events_file(self) -> Path:
        return self.path / "events.jsonl"

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        config_yaml: str,
        plan: dict,
        *,
        resume: bool = False,
        overwrite: bool = False,
        info: Mapping[str, object] | None = None,
    ) -> RunDir:
        """Own `path` for one run and write its configuration and plan.

        `resume` goes on with the run that is there (and starts afresh where there is none), `overwrite` removes it first; without either,
        a directory that holds a run raises `RunDirExists`. A run that another process is still writing raises `RunDirBusy`.
        `info` (e.g. {"method": "grpo"}) is added to the `start` or `resume` event.
        """
        if resume and overwrite:
            raise ValueError(
                "resume and overwrite contradict each other: --resume keeps the earlier run, run.overwrite removes it"
            )
        run = cls(path)
        occupied = run._occupied()
        if occupied and not (resume or overwrite):
            raise RunDirExists(
                f"{run.path} already holds a run ({', '.join(occupied)}). Go on with it: --resume. Replace it: --run.overwrite true."
                " Keep it: choose another --run.dir"
            )
        if occupied and not is_run(run.path):
            raise RunDirExists(
                f"{run.path} holds {', '.join(occupied)} but no events.jsonl of a run, so it is neither resumed nor removed."
                " Choose another --run.dir, or clear it by hand"
            )
        with disk_errors(run.path, "nothing was started"):
            run.rollouts.mkdir(parents=True, exist_ok=True)
            run._lock = hold(run.path)
            if occupied and overwrite:
                run._clear()
            run.rollouts.mkdir(exist_ok=True)
            run.checkpoints.mkdir(exist_ok=True)
        run._begin(config_yaml, plan, resumed=bool(occupied and resume), info=dict(info or {}))
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunDir:
        """Attach to a run that `create` made, to append from a worker of it. Takes no lock."""
        run = cls(path)
        if not is_run(run.path):
            raise FileNotFoundError(f"{run.path} is no run directory: it has no events.jsonl that begins with a start")
        run._restore(read_metrics(run.metrics_file))
        begun = [event for event in read_events(run.path) if event.get("kind") in ("start", "resume")]
        run.totals.elapsed += max(
            0.0, (datetime.now(UTC) - datetime.fromisoformat(str(begun[-1]["time"]))).total_seconds()
        )
        return run

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append the row of `step`. Keys begin with one of `PREFIXES`; the cumulative costs are added. NaN and infinity become null, with a warning."""
        if step < self._last_step:
            raise ValueError(
                f"metrics of step {step} after step {self._last_step}: call rewind({step - 1}) before going back"
            )
        row: dict[str, object] = {"step": int(step), "time": utc_now()}
        for key, value in values.items():
            row[key] = metric_value(key, value)
        self._count(row)
        lost = sorted(key for key, value in row.items() if finite(value) is None)
        append_row(self.metrics_file, row, kept=self._kept())
        self._last_step = step
        if new := [key for key in lost if key not in self._warned]:
            self._warned.update(new)
            self.event("warning", step=step, message=f"not finite at step {step}: {', '.join(new)}")

    def add_cost(self, *, rollout_tokens: int = 0, rollout_samples: int = 0, train_tokens: int = 0) -> None:
        """Add to the cumulative costs that the next metrics rows will show."""
        self.totals.rollout_tokens += int(rollout_tokens)
        self.totals.rollout_samples += int(rollout_samples)
        self.totals.train_tokens += int(train_tokens)

    def event(self, kind: str, **fields: object) -> None:
        """Append {"time": UTC, "kind": kind, ...}. Kinds the report knows: start resume rewind config_changed save warning failure interrupted finish."""
        append_row(self.events_file, {"time": utc_now(), "kind": kind, **fields})

    def write_rollouts(self, name: str, rows: Iterable[Mapping[str, object]]) -> Path:
        """Write `rollouts/<name>.jsonl` atomically. Names end in the step, e.g. `step_000012` or `eval_game24_000012`."""
        if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
            raise ValueError(f"a rollouts file name holds letters, digits, '_', '-' and '.': {name!r}")
        return write_atomic(self.rollouts / f"{name}.jsonl", (dumps(row) + "\n" for row in rows), kept=self._kept())

    def rewind(self, step: int) -> None:
        """Drop metrics rows and rollouts later than `step` (a resumed run redoes them) and say so in the events."""
        dropped_rollouts = sum(drop_rollouts_after(path, step) for path in sorted(self.rollouts.glob("*.jsonl")))
        rows = read_lines(self.metrics_file).rows
        kept = [row for row in rows if step_of(row) <= step]
        if len(kept) < len(rows):
            write_atomic(self.metrics_file, (dumps(row) + "\n" for row in kept))
        self._restore(kept)
        self._last_step = min(self._last_step, step)
        if len(kept) < len(rows) or dropped_rollouts:
            self.event("rewind", step=step, dropped_rows=len(rows) - len(kept), dropped_rollout_files=dropped_rollouts)

    def close(self, kind: str = "finish", **fields: object) -> None:
        """Record how the run ended and let go of the directory. Closing twice records the first ending only."""
        if self._lock is None:
            return
        self.event(kind, **fields)
        os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close("finish")
            return
        ending = "interrupted" if isinstance(error, KeyboardInterrupt) else "failure"
        told = getattr(error, "cause", None) or error  # Ray wraps what a worker raised and keeps it as `cause`
        with contextlib.suppress(OSError):  # the disk may be what failed; the error itself goes on to the caller
            self.close(ending, error=type(told).__name__, message=str(told)[-4000:], step=self._last_step)

    def _occupied(self) -> list[str]:
        if self.path.exists() and not self.path.is_dir():
            raise RunDirExists(f"{self.path} is a file: choose another --run.dir")
        return [name for name in OURS if (self.path / name).exists() and not is_empty_folder(self.path / name)]

    def _clear(self) -> None:
        for name in OURS:
            target = self.path / name
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)

    def _begin(self, config_yaml: str, plan: dict, *, resumed: bool, info: dict[str, object]) -> None:
        self.resumed = resumed
        torn = sum(repair_tail(path) for path in (self.metrics_file, self.events_file)) if resumed else 0
        changed = config_changes((self.path / "config.yaml"), config_yaml) if resumed else {}
        self._restore(read_metrics(self.metrics_file))
        self.event("resume" if resumed else "start", argv=without_secrets(sys.argv[1:]), **info)
        if torn:
            self.event("warning", message=f"removed {torn} bytes of an unfinished last line")
        if changed:
            number = sum(1 for _ in self.path.glob("config.*.yaml")) + 1
            shutil.copyfile(self.path / "config.yaml", self.path / f"config.{number}.yaml")
            self.event("config_changed", changed=changed, previous=f"config.{number}.yaml")
        write_atomic(self.path / "config.yaml", [config_yaml])
        write_atomic(self.path / "plan.json", [json.dumps(plan, indent=2, default=plain), "\n"])

    def _restore(self, rows: list[dict]) -> None:
        self.totals = Totals.of(rows[-1]) if rows else Totals()
        self._last_step = step_of(rows[-1]) if rows else -1
        self._clock = time.monotonic()

    def _count(self, row: dict[str, object]) -> None:
        """Add the cumulative columns to `row`; a caller that counts by itself may have given some of them already."""
        now = time.monotonic()
        self.totals.elapsed += now - self._clock
        self._clock = now
        for key, value in self.totals.columns().items():
            row.setdefault(key, value)
        self.totals = Totals.of(row)

    def _kept(self) -> str:
        saved = sorted(
            (path for path in self.checkpoints.glob("step_*") if not path.name.endswith(".tmp")), key=trailing_number
        )
        checkpoint = f"checkpoint {saved[-1].name}" if saved else "no checkpoint yet"
        return f"metrics up to step {max(self._last_step, 0)}, {checkpoint}, everything already in {self.path}"


def utc_now() -> str:
    """The time as UTC ISO 8601 with milliseconds, e.g. 2026-03-01T12:00:00.123+00:00."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def metric_value(key: str, value: object) -> float:
    """The metric as a plain number. Raises ValueError for an unknown prefix, TypeError for something that is no number."""
    if not key.startswith(PREFIXES):
        raise ValueError(f"metric {key!r} needs one of the prefixes {' '.join(PREFIXES)}")
    item = getattr(value, "item", None)
    number = item() if callable(item) else value
    if isinstance(number, bool):
        return int(number)
    if not isinstance(number, numbers.Real):
        raise TypeError(f"metric {key!r} is no number: {value!r:.80}")
    return int(number) if isinstance(number, numbers.Integral) else float(number)


def is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def drop_rollouts_after(path: Path, step: int) -> bool:
    """Remove rows later than `step` from one rollouts file, or the whole file when none is left. Returns whether anything went."""
    if (number := trailing_number(path)) >= 0:
        if number > step:
            path.unlink()
        return number > step
    rows = read_lines(path).rows
    kept = [row for row in rows if step_of(row) <= step]
    if len(kept) == len(rows):
        return False
    if kept:
        write_atomic(path, (dumps(row) + "\n" for row in kept))
    else:
        path.unlink()
    return True
