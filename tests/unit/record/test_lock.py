"""A refused lock names its reason: another process, or a file system without locks."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from openrlhf_ext.collect.growing import GrowingFile
from openrlhf_ext.evaluate.results import Results
from openrlhf_ext.record.lock import RunDirBusy, hold


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def lock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", lock)
    monkeypatch.setattr(fcntl, "flock", lock)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EAGAIN, "is being written by another process"),
        (errno.ENOLCK, "choose a folder on a file system with locks"),
    ],
)
def test_every_lock_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str) -> None:
    refuse(monkeypatch, number)
    with pytest.raises(RunDirBusy, match=reason):
        hold(tmp_path)
    with pytest.raises(RuntimeError, match=reason):
        GrowingFile(tmp_path / "rows.jsonl", {}, lambda number, row: None)
    with pytest.raises(RuntimeError, match=reason):
        Results(tmp_path / "out", {"models": {}})
