"""OpenRLHF's W&B logger with the real package: no login, no network, and the key in no file."""

from __future__ import annotations

import socket
from argparse import Namespace
from pathlib import Path

import pytest

from openrlhf_ext.record.trackers import enable_wandb, wandb_environment

wandb = pytest.importorskip("wandb")
KEY = "5ec4e7" * 6 + "abcd"


@pytest.fixture(autouse=True)
def shut_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No home with a login, no connection to another machine, no login."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        assert self.family == socket.AF_UNIX or "127.0.0.1" in str(address), f"connects to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    monkeypatch.setattr(wandb, "login", lambda **words: pytest.fail(f"login with {words}"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def log_one_step(key: str | None, directory: Path) -> bytes:
    """What W&B keeps of a run with one step, all files together."""
    from openrlhf.utils.logging_utils import WandbLogger

    directory.mkdir()
    args = Namespace(logger=Namespace(wandb=Namespace(key=key, org=None, project="p", group=None, run_name="r")))
    with wandb_environment(enable_wandb(args, directory)):
        logger = WandbLogger(args)
        logger.log_train(1, {"reward": 0.5, "generated_samples": ("text", 0.5)})
        logger.log_eval(1, {"accuracy": 0.25})
        logger.close()
    [kept] = directory.glob("wandb/offline-run-*")
    return b"".join(path.read_bytes() for path in kept.rglob("*") if path.is_file())


def test_runs_of_one_process_are_offline_each_in_its_own_directory_and_keep_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert b"train/reward" in log_one_step(None, tmp_path / "first")
    monkeypatch.setenv("WANDB_MODE", "offline")  # a key, but no network wanted now
    kept = log_one_step(KEY, tmp_path / "second")
    assert b"train/reward" in kept and b"eval/accuracy" in kept
    assert KEY.encode() not in kept


def test_upstream_still_copies_its_arguments_so_a_key_in_them_would_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without ``enable_wandb`` the key is found in the files."""
    from openrlhf.utils.logging_utils import WandbLogger

    args = Namespace(logger=Namespace(wandb=Namespace(key=KEY, org=None, project="p", group=None, run_name="r")))
    with wandb_environment({"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_API_KEY": KEY}):
        WandbLogger(args).close()
    [record] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert KEY.encode() in record.read_bytes()
