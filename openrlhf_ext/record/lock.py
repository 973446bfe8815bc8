"""Who owns a run directory: an advisory lock on `.lock` that ends with its process, however that ends."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path


class RunDirBusy(ValueError):
    """Another living process writes into this run directory."""


def not_locked(path: Path, error: OSError, owner: str = "") -> str:
    """Why a lock of `path` was refused: another process has it, or the file system (some network ones) knows no locks."""
    if error.errno in (errno.EACCES, errno.EAGAIN):
        by = f" ({owner})" if owner else ""
        return f"{path} is being written by another process{by}: wait for it, or stop it"
    return f"{path} cannot be locked ({error.strerror}): choose a folder on a file system with locks, e.g. a local disk"


def hold(path: Path) -> int:
    """Own `path` until the returned descriptor is closed or this process ends. Raises `RunDirBusy` where another process owns it."""
    handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(handle, 200).decode(errors="replace")
        os.close(handle)
        raise RunDirBusy(not_locked(path, error, owner.strip())) from error
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return handle


def is_held(path: Path) -> bool:
    """Whether a living process owns the run (see RunDir: an advisory lock on `.lock` that ends with its process)."""
    lock = path / ".lock"
    if not lock.exists():
        return False
    # Closing any descriptor of a file drops this process's own lock on it, so its owner must not probe.
    if f"process {os.getpid()} " in lock.read_text(errors="replace"):
        return True
    with lock.open("rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
