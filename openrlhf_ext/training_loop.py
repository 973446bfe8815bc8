"""The loop around the steps of a run: signals, the clock, checkpoints that exist whole or not at all, exact resume, exported models.

What a step does, which groups are trained and what else must be remembered is up to the trainer (`trainer.py` with engines,
`offline_trainer.py` on stored trajectories). Imported late: it pulls in Ray.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.checkpoint import follow_umask, latest_checkpoint, read_state, save_checkpoint
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.record.run_dir import RunDir
from openrlhf_ext.rollout.deadline import wait_for

if TYPE_CHECKING:
    import ray


@dataclass(frozen=True)
class Calendar:
    """When what happens, in steps; 0 switches off. Timeouts in seconds."""

    steps: int
    save_every: int = 0
    keep_checkpoints: int = 3
    step_timeout: float = 3600.0


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop and has saved its state."""


class TrainingLoop:
    """One run, from its first step or from its last checkpoint to the end of its calendar."""

    phases: tuple[str, ...] = ()
    schedule: Calendar
    run: RunDir
    progress: Progress

    def begin(self, schedule: Calendar, run: RunDir, progress: Progress) -> None:
        """To be called by the trainer's constructor."""
        self.schedule, self.run, self.progress = schedule, run, progress
        self.stop_requested = False
        self._clock: dict[str, float] = {}

    def fit(self, global_step: int = 0) -> int:
        """Train to the end of the calendar; returns the last step. Raises :class:`Interrupted` after a requested stop."""
        schedule = self.schedule
        step = self._resume() or global_step
        with self._stopping_on_signals():
            self._before_steps(step)
            if step < schedule.steps:
                self.progress.note(self._legend())
            self.progress.resume(step)
            while step < schedule.steps:
                step = self._one_step(step)
                if self.stop_requested:
                    self.save(step)
                    raise Interrupted(f"stopped after step {step} of {schedule.steps}; go on with --resume")
                if schedule.save_every and step % schedule.save_every == 0:
                    self.save(step)
        for tracker in self._trackers():
            tracker.close()
        return step

    def save(self, step: int) -> None:
        """Write a whole checkpoint of ``step``, or leave the previous ones as they are."""
        self.progress.phase("save")

        def write_workers(directory: Path) -> None:
            refs = self._trained_groups("save_state", str(directory), {"step": step})
            wait_for(refs, "saving the trained models", self.schedule.step_timeout)

        with self._timed("save"):
            path = save_checkpoint(
                self.run.checkpoints, step, write_workers, self._state(step), self.schedule.keep_checkpoints
            )
        self.run.event("save", step=step, path=path.name, seconds=round(self._clock["save"], 3))

    def export(self, group, directory: Path) -> None:
        """Write a group's model in Hugging Face form; complete or absent."""
        unfinished = directory.with_name(directory.name + ".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        refs = group.async_run_method("save_hf", str(unfinished))
        wait_for(refs, "saving the model", self.schedule.step_timeout)
        shutil.rmtree(directory, ignore_errors=True)
        follow_umask(unfinished)
        unfinished.rename(directory)

    def _before_steps(self, step: int) -> None:
        """Hear where the run begins: 0, or the step of the checkpoint."""

    def _legend(self) -> str:
        """One line that says what the values on the progress line are."""
        raise NotImplementedError

    def _one_step(self, step: int) -> int:
        """Do the step after ``step``, record it, and return its number."""
        raise NotImplementedError

    def _groups(self) -> list:
        """The groups whose state is saved and restored."""
        raise NotImplementedError

    def _state(self, step: int) -> dict:
        """What the trainer itself must remember, as JSON; with ``step``."""
        raise NotImplementedError

    def _restore(self, state: dict) -> None:
        """Take up what :meth:`_state` gave; the groups are restored already. May refuse: nothing has been dropped yet."""
        raise NotImplementedError

    def _restored(self) -> None:
        """Do what the first step after a resume needs."""

    def _trackers(self) -> list:
        """W&B and TensorBoard, where they are switched on."""
        return []

    def _trained_groups(self, method_name: str, *args: object) -> list[ray.ObjectRef]:
        """Call every rank of every trained group."""
        return [ref for group in self._groups() for ref in group.async_run_method(method_name, *args)]

    def _resume(self) -> int | None:
        checkpoint = latest_checkpoint(self.run.checkpoints) if self.run.resumed else None
        if checkpoint is None:
            if self.run.resumed:
                self.run.rewind(-1)
            return None
        state = read_state(checkpoint)
        refs = self._trained_groups("load_state", str(checkpoint))
        wait_for(refs, f"loading {checkpoint.name}", self.schedule.step_timeout)
        self._restore(state)
        self.run.rewind(state["step"])
        self._restored()
        self.progress.note(f"resumed from {checkpoint.name}")
        return state["step"]

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to the step's ``time/<name>``; ``phases`` are also shown on the progress line."""
        if name in self.phases:
            self.progress.phase(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._clock[name] = self._clock.get(name, 0.0) + time.perf_counter() - start

    @contextlib.contextmanager
    def _stopping_on_signals(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM, as `ray job stop` sends) finishes the step and saves; the second ends at once."""

        def request_stop(number: int, _frame: object) -> None:
            if self.stop_requested:
                raise KeyboardInterrupt
            self.stop_requested = True
            self.progress.note(
                f"{signal.Signals(number).name}: finishing this step, then saving (once more: end at once)"
            )

        previous = {number: signal.signal(number, request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
