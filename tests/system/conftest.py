"""Fixtures of the system tests: a tiny model, three finished runs, and command lines that end with their test."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.system.toy import (
    PROMPTS,
    REPEATABLE,
    Job,
    Toy,
    chain_row,
    environment,
    talk_numbers_half_the_time,
    write_rows,
)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A fresh tiny model, moved by a second of plain training to give a readable number to about every second prompt."""
    folder = tmp_path_factory.mktemp("toy")
    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    build_tiny_model(folder / "model", task="chain", layers=2, hidden=64, heads=2, context=64, seed=1)
    rows = [chain_row(i) for i in range(PROMPTS)]
    write_rows(folder / "prompts.jsonl", rows)
    talk_numbers_half_the_time(folder / "model", [str(row["input"]) for row in rows])
    return Toy(folder / "model", folder / "prompts.jsonl")


@pytest.fixture(scope="session")
def runs(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three finished runs, jobs of one process: `learn`, `control` (a learning rate that moves nothing) and `whole` (never interrupted)."""
    folder = tmp_path_factory.mktemp("runs")
    jobs = [
        toy.grpo(folder / "learn", ckpt__save_steps=8),
        toy.grpo(folder / "control", actor__adam__lr=1e-12),
        toy.grpo(folder / "whole", **REPEATABLE),
    ]
    (folder / "all.jobs").write_text("\n".join(shlex.join(words) for words in jobs))
    with open(folder / "log", "w") as log:
        words = [sys.executable, "-m", "openrlhf_ext", "jobs", str(folder / "all.jobs")]
        with subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environment()) as process:
            (folder / "pid").write_text(str(process.pid))
            try:
                code = process.wait(1400)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert code == 0, (folder / "log").read_text()[-6000:]
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Starts command lines; whatever still runs at the end of the test is killed."""
    jobs: list[Job] = []

    def begin(words: Sequence[str], **variables: str) -> Job:
        jobs.append(Job(words, tmp_path / f"job{len(jobs)}.log", environment(**variables)))
        return jobs[-1]

    yield begin
    for job in jobs:
        if job.process.poll() is None:
            job.signal(signal.SIGKILL)
            job.process.wait()
