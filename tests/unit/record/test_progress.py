"""Progress: lines a person can follow, the time left, a live line on a terminal only."""

from __future__ import annotations

import io
import re
import time

import pytest

from openrlhf_ext.record.progress import Progress, seconds_left
from openrlhf_ext.record.text import clock, number


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (8.24, "8.2 s"),
        (59.96, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (273600, "3 d 04 h"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.41234, "0.412"), (84.26, "84.3"), (123.45, "123.5"), (3, "3"), (2.0, "2"), (1.2e-6, "1.2e-06")],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_time_left_is_the_mean_step_without_stalls() -> None:
    assert seconds_left([], 10) is None
    assert seconds_left([2.0, 2.0, 2.0, 2.0], 5) == pytest.approx(10.0)
    # One stall of 100 s counts as 3 x the median of 2 s: (2+2+2+2+6)/5 = 2.8 s per step.
    assert seconds_left([2.0, 2.0, 100.0, 2.0, 2.0], 10) == pytest.approx(28.0)
    # Every fourth step evaluates for 4 s more, which a median alone would forget.
    assert seconds_left([2.0, 2.0, 2.0, 6.0], 4) == pytest.approx(12.0)


def test_lines_elsewhere_than_on_a_terminal() -> None:
    stream = io.StringIO()
    progress = Progress(3, "grpo game24", stream, every_s=0)
    progress.phase("start Ray")
    progress.phase("load the engine")
    for step in (1, 2, 3):
        progress.phase("generate")
        progress.step(step, reward=0.1 * step, response_length=80.04)
    progress.note("saved step_3")
    progress.close()
    progress.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "start Ray ..."
    assert re.fullmatch(r"  start Ray: \d\.\d s", lines[1])
    steps = [line for line in lines if " step " in line]
    assert len(steps) == 3 and "step 1/3" in steps[0] and "left" in steps[1] and "reward 0.1" in steps[0]
    assert "response length 80" in steps[0] and "left" not in steps[2]
    assert "left" not in steps[0] and "s/step" not in steps[0], "a first step tells nothing about the others"
    assert lines[-2] == "saved step_3" and lines[-1].startswith("grpo game24: 3 of 3 steps in")
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()
    assert sum("generate" in line for line in lines) == 2, "phases are told until the first step only"


def test_lines_are_throttled_but_first_and_last_always_show() -> None:
    stream = io.StringIO()
    with Progress(1000, "sft", stream, every_s=3600) as progress:
        for step in range(1, 1001):
            progress.step(step, loss=1.0)
    shown = re.findall(r"step (\d+)/1000", stream.getvalue())
    assert shown == ["1", "1000"]


def test_a_resumed_run_counts_only_its_own_time() -> None:
    stream = io.StringIO()
    with Progress(100, "grpo", stream, every_s=0) as progress:
        progress.phase("load")
        time.sleep(0.05)
        progress.resume(90)
        progress.step(91)
        progress.step(92)
    line = next(line for line in stream.getvalue().splitlines() if "step 92/100" in line)
    left = re.search(r"(\d+\.\d) s left", line)
    assert left is not None and float(left[1]) < 0.3, "the 90 earlier steps and the loading took no step time"


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_the_slow_first_step_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock_, stream = Clock(monkeypatch), io.StringIO()
    progress = Progress(1250, "grpo", stream, every_s=0)
    progress.resume(0)
    for step, seconds in enumerate([29.1, 2.0, 4.0], start=1):
        clock_.now += seconds
        progress.step(step, reward=0.5)
    progress.close()
    first, second, third, _ = stream.getvalue().splitlines()
    assert first == "grpo  step 1/1250  reward 0.5  first step 29.1 s"
    assert second == "grpo  step 2/1250  41 min 36 s left  reward 0.5  2.0 s/step"  # 1248 x 2 s
    assert third == "grpo  step 3/1250  1 h 02 min left  reward 0.5  3.0 s/step"  # 1247 x 3 s


def test_evaluations_that_are_to_come_count_and_are_no_part_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock_, stream = Clock(monkeypatch), io.StringIO()
    progress = Progress(4, "grpo", stream, every_s=0)
    progress.resume(0)
    progress.expect_evaluations(lambda step: 2 if step < 3 else 1)  # within step 3, and at the end
    for step, evaluated in [(1, 20.0), (2, 0.0), (3, 8.0), (4, 8.0)]:
        progress.phase("generate")
        clock_.now += 2.0
        if evaluated:
            progress.phase("evaluate")
            clock_.now += evaluated
            progress.phase("sync")
        clock_.now += 1.0
        progress.step(step)
    progress.close()
    steps = [line for line in stream.getvalue().splitlines() if " step " in line and "grpo  " in line]
    assert steps == [
        "grpo  step 1/4  first step 3.0 s",
        "grpo  step 2/4  46.0 s left  3.0 s/step",  # 2 x 3 s and 2 evaluations of 20 s
        "grpo  step 3/4  11.0 s left  3.0 s/step",  # 3 s and one evaluation of 8 s
        "grpo  step 4/4  3.0 s/step",
    ]


def test_without_a_known_total_there_is_no_time_left() -> None:
    stream = io.StringIO()
    with Progress(0, "sft", stream, every_s=0) as progress:
        progress.step(7, loss=0.5)
    assert "sft  step 7  loss 0.5" in stream.getvalue() and "left" not in stream.getvalue()


def test_a_long_phase_says_that_it_is_still_going() -> None:
    stream = io.StringIO()
    with Progress(1, "grpo", stream, heartbeat_s=0.5) as progress:
        progress.phase("loading the engine")
        time.sleep(2.3)
    assert "still loading the engine" in stream.getvalue()


def test_a_terminal_gets_one_live_line() -> None:
    stream = Terminal()
    with Progress(4, "grpo", stream) as progress:
        progress.phase("generate")
        progress.step(1, reward=0.5)
        progress.step(2, reward=0.6)
        progress.note("hello")
    text = stream.getvalue()
    assert "\r" in text and "[========        ]" in text and "reward 0.6" in text
    assert "hello\n" in text and text.rstrip().splitlines()[-1].startswith("grpo: 2 of 4 steps")
