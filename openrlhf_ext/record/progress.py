"""Progress on the terminal: a live line with a bar on a TTY, plain throttled lines elsewhere; phases before the first step; time left."""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self, TextIO

from tqdm import tqdm

from openrlhf_ext.record.text import clock, number

WINDOW = 20
CLIP = 3.0
EVALUATE = "evaluate"
"""The phase whose seconds are no part of a step's, once `expect_evaluations` was called."""


def seconds_left(durations: list[float], steps: int) -> float | None:
    """Expected seconds for `steps` more steps from the latest durations, or None without any.

    The mean of the durations, each clipped at three times their median: one stall does not move it, evaluation every few steps does.
    """
    if not durations:
        return None
    limit = CLIP * statistics.median(durations)
    return steps * statistics.fmean(min(value, limit) for value in durations)


class Progress:
    """Tells a person how far a run is.

    `phase` names what is going on (each is reported with its seconds until the first step, shown on the live line afterwards), `step` counts,
    `resume` says that the first steps were done before, `note` prints one line, `close` ends. The first step of a process compiles and
    warms up: it gives no time left, and is not in the mean of those after it. On a TTY one line is redrawn every second; elsewhere lines come at most every `every_s` seconds
    (the first and the last step always), and a phase that takes longer than `heartbeat_s` says that it is still at it.
    """

    def __init__(
        self,
        total_steps: int,
        title: str,
        stream: TextIO | None = None,
        *,
        done_steps: int = 0,
        every_s: float = 5.0,
        heartbeat_s: float = 30.0,
    ) -> None:
        self.total, self.title = total_steps, title
        self.stream = stream if stream is not None else sys.stderr
        self.live = self.stream.isatty()
        self.every_s, self.heartbeat_s = every_s, heartbeat_s
        self._done = self._first = done_steps
        self._counting = False
        self._durations: deque[float] = deque(maxlen=WINDOW)
        self._first_duration: float | None = None
        self._evaluations_left: Callable[[int], int] | None = None
        self._evaluation = self._evaluating = 0.0
        self._start = self._step_start = time.monotonic()
        self._printed = float("-inf")
        self._values: dict[str, float] = {}
        self._phase, self._phase_start, self._phase_told = "", self._start, self._start
        self._guard = threading.RLock()
        self._closed = threading.Event()
        self._bar = (
            tqdm(total=total_steps, initial=done_steps, file=self.stream, bar_format="{desc}", leave=False)
            if self.live
            else None
        )
        self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._ticker.start()

    def phase(self, name: str) -> None:
        """The run is now busy with `name` (e.g. "starting Ray", "generate")."""
        with self._guard:
            self._end_phase()
            self._phase, self._phase_start = name, time.monotonic()
            self._phase_told = self._phase_start
            if not self.live and self._done == self._first:
                self._print(f"{name} ...")
            self._draw()

    def resume(self, step: int) -> None:
        """Steps begin now, after `step` (0, or what an earlier process did): no time was spent on those here."""
        with self._guard:
            self._done = self._first = step
            self._counting = True
            self._step_start = time.monotonic()
            self._draw()

    def expect_evaluations(self, left: Callable[[int], int]) -> None:
        """`left(step)` evaluations come after a step: they count in the time left, as long as the latest one, and not in the steps' own time."""
        self._evaluations_left = left

    def step(self, step: int, **values: float) -> None:
        """Step number `step` (counted from 1) is done; `values` are shown beside it."""
        with self._guard:
            self._end_phase()
            now = time.monotonic()
            if step > self._done:
                self._count(now - self._step_start, step - self._done)
            self._step_start = now
            first = self._done == self._first
            self._done, self._values = step, values
            due = now - self._printed >= self.every_s
            if not self.live and (first or due or step == self.total):
                self._printed = now
                self._print(self._line())
            self._draw()

    def note(self, text: str) -> None:
        """Print one line above the live line."""
        with self._guard:
            self._print(text)

    def close(self) -> None:
        """End the live line and say how long it took. A second call does nothing."""
        with self._guard:
            if self._closed.is_set():
                return
            self._closed.set()
            self._end_phase()
            if self._bar is not None:
                self._bar.close()
                if self._done > self._first:
                    self._write(self._line())
            of_total = f" of {self.total}" if self.total else ""
            self._write(f"{self.title}: {self._done}{of_total} steps in {clock(time.monotonic() - self._start)}")
        self._ticker.join(timeout=2.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _count(self, seconds: float, steps: int) -> None:
        if self._evaluations_left is not None and self._evaluating:
            seconds = max(0.0, seconds - self._evaluating)
            self._evaluation, self._evaluating = self._evaluating, 0.0
        if self._first_duration is None:
            self._first_duration = seconds / steps
        else:
            self._durations.append(seconds / steps)

    def _seconds_left(self) -> float | None:
        left = seconds_left(list(self._durations), self.total - self._done)
        if left is None or self._evaluations_left is None:
            return left
        return left + self._evaluations_left(self._done) * self._evaluation

    def _end_phase(self) -> None:
        if self._phase == EVALUATE:
            self._evaluating += time.monotonic() - self._phase_start
        if self._phase and self._done == self._first:
            self._print(f"  {self._phase}: {clock(time.monotonic() - self._phase_start)}")
        self._phase = ""
        if self._done == self._first and not self._counting:
            self._step_start = max(self._step_start, self._phase_start)

    def _line(self, bar: str = "") -> str:
        parts = [
            f"{self.title}  step {self._done}" + (f"/{self.total}" if self.total else ""),
            bar if self.total else "",
        ]
        left = self._seconds_left()
        if left is not None and self._done < self.total:
            parts.append(f"{clock(left)} left")
        parts += [f"{key.replace('_', ' ')} {number(value)}" for key, value in self._values.items()]
        if self._durations:
            parts.append(f"{statistics.median(self._durations):.1f} s/step")
        elif self._first_duration is not None:
            parts.append(f"first step {clock(self._first_duration)}")
        return "  ".join(part for part in parts if part)

    def _live_line(self) -> str:
        width, share = 16, self._done / max(self.total, 1)
        filled = min(width, int(width * share))
        line = self._line(f"[{'=' * filled}{' ' * (width - filled)}]")
        return f"{line}  {self._phase} {clock(time.monotonic() - self._phase_start)}" if self._phase else line

    def _draw(self) -> None:
        if self._bar is not None and not self._closed.is_set():
            self._bar.set_description_str(self._live_line()[: self._columns() - 1])

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or 100  # 0 where a terminal states no size
        except OSError:
            return 100

    def _tick(self) -> None:
        while not self._closed.wait(1.0):
            with self._guard:
                if self._closed.is_set():
                    return
                now = time.monotonic()
                if self.live:
                    self._draw()
                elif self._phase and now - self._phase_told >= self.heartbeat_s:
                    self._phase_told = now
                    self._print(f"  still {self._phase}, {clock(now - self._phase_start)}")

    def _print(self, text: str) -> None:
        if self._bar is not None and not self._closed.is_set():
            self._bar.write(text, file=self.stream)
        else:
            self._write(text)

    def _write(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()
