"""A run that is killed again and again goes on as if nothing had happened: in a rollout, in a save, with one worker gone, by Ctrl-C.

Sampling is made deterministic (a nucleus of one token), so that the resumed run is compared with an uninterrupted one row by row: prompts,
rewards, normaliser, scheduler, optimiser. Cost: four starts, about 120 s on 2 idle cores; Ctrl-C about 30 s.
"""

from __future__ import annotations

import random
import signal
from pathlib import Path

import psutil
import pytest

from openrlhf_ext.checkpoint import checkpoints, latest_checkpoint, read_state
from openrlhf_ext.record.run_dir import read_events
from tests.system.toy import REPEATABLE, problem_ids, rows_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(2400)]

STEPS = REPEATABLE["grpo__max_steps"]
COMPARED = (
    *("rollout/reward_mean", "rollout/response_length_mean", "rollout/samples_total", "rollout/tokens_total"),
    *("train/lr", "train/policy_loss", "train/grad_norm", "train/tokens_total"),
    *("train/normaliser_mean", "train/normaliser_std", "train/normaliser_momentum"),
)


def last_step(directory: Path) -> int:
    rows = rows_of(directory)
    return int(rows[-1]["step"]) if rows else 0


def is_saving(directory: Path) -> bool:
    return any((directory / "checkpoints").glob("step_*.tmp"))


def worker_of(driver: int, name: str) -> psutil.Process:
    """The Ray worker below ``driver`` that runs an actor of this class."""
    found = [p for p in psutil.Process(driver).children(recursive=True) if f"ray::{name}" in " ".join(p.cmdline())]
    assert len(found) == 1, f"{len(found)} processes of {name}"
    return found[0]


def same_state(ours: dict, theirs: dict) -> bool:
    """The trainer's own state: exact but for sums of floats."""
    return ours.keys() == theirs.keys() and all(
        ours[key] == (pytest.approx(value, rel=1e-5) if key == "method" else value) for key, value in theirs.items()
    )


def test_kills_in_a_rollout_in_a_save_and_of_a_worker_change_nothing(toy, runs: Path, start, tmp_path: Path) -> None:
    run, chance = tmp_path / "run", random.Random()
    words = toy.grpo(run, **REPEATABLE)

    job = start(words)
    job.until(lambda: last_step(run) >= 3, "third step")  # step 4 is being generated: the last save was step 2
    job.until(lambda: chance.random() < 0.2, "moment")
    job.signal(signal.SIGKILL)
    job.wait()
    assert latest_checkpoint(run / "checkpoints") == run / "checkpoints" / "step_000002"

    job = start([*words, "--resume"])
    job.until(lambda: is_saving(run), "save", every=0.001)
    job.signal(signal.SIGKILL)
    job.wait()
    reached = read_state(latest_checkpoint(run / "checkpoints"))["step"]
    assert reached in (2, 4), "the save of step 4 is there whole or not at all"

    job = start([*words, "--resume"])
    job.until(lambda: last_step(run) >= 5, "fifth step")
    worker_of(job.process.pid, "PolicyWorker").kill()
    assert job.wait() == 1
    assert "PolicyWorker" in job.output() or "actor died" in job.output().lower()
    assert "--resume" in job.output()
    assert read_events(run)[-1]["kind"] == "failure"

    job = start([*words, "--resume"])
    assert job.wait() == 0, job.output()[-4000:]
    kinds = [event["kind"] for event in read_events(run)]
    assert (kinds.count("start"), kinds.count("resume"), kinds[-1]) == (1, 3, "finish")
    assert (run / "model" / "model.safetensors").exists()

    whole = runs / "whole"
    assert problem_ids(run) == problem_ids(whole)
    assert [row["step"] for row in rows_of(run)] == [row["step"] for row in rows_of(whole)] == list(range(1, STEPS + 1))
    for ours, theirs in zip(rows_of(run), rows_of(whole), strict=True):
        values = {key: ours[key] for key in COMPARED}
        assert values == pytest.approx({key: theirs[key] for key in COMPARED}, rel=1e-3, abs=1e-5), (
            f"step {ours['step']}"
        )
    states = [read_state(latest_checkpoint(path / "checkpoints")) for path in (run, whole)]
    assert same_state(*states), states
    assert len(checkpoints(run / "checkpoints")) == 2


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(toy, start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = start(toy.grpo(run, **REPEATABLE | {"ckpt__save_steps": 100}))
    job.until(lambda: last_step(run) >= 1, "first step")
    job.signal(signal.SIGINT)
    assert job.wait() == 1
    stopped = last_step(run)
    assert 1 < stopped <= STEPS
    assert read_state(latest_checkpoint(run / "checkpoints"))["step"] == stopped
    assert "--resume" in job.output()
    assert "Traceback" not in job.output()
    assert read_events(run)[-1]["kind"] == "interrupted"
