"""Checkpoints that exist whole or not at all.

``checkpoints/step_000012/`` holds the workers' state and ``trainer.json``. It is written under ``step_000012.tmp``, flushed to disk and
renamed; ``checkpoints/latest`` (one line, replaced atomically) is written last, older checkpoints are removed after that. A kill at any
moment leaves the previous checkpoint usable.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

STATE_FILE = "trainer.json"
LATEST_FILE = "latest"


def save_checkpoint(root: Path, step: int, write_workers: Callable[[Path], None], state: dict, keep: int) -> Path:
    """Write checkpoint ``step`` below ``root`` and drop all but the newest ``keep``.

    ``write_workers`` fills the directory it is given; ``state`` must be JSON. Raises OSError (a full disk, say) with the previous
    checkpoints untouched.
    """
    root.mkdir(parents=True, exist_ok=True)
    final = root / f"step_{step:06d}"
    unfinished = final.with_suffix(".tmp")
    _remove_unfinished(root)
    unfinished.mkdir()
    try:
        write_workers(unfinished)
        (unfinished / STATE_FILE).write_text(json.dumps(state, indent=1))
        _flush(unfinished)
        if final.exists():  # the same step saved again
            final.rename(root / f"{final.name}.replaced.tmp")
        unfinished.rename(final)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    _replace_text(root / LATEST_FILE, final.name)
    _flush_directory(root)
    for old in checkpoints(root)[:-keep]:
        old.rename(old.with_suffix(".tmp"))  # a kill while it is being removed must not leave one that looks complete
    _remove_unfinished(root)
    return final


def checkpoints(root: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(p for p in root.glob("step_*") if p.is_dir() and p.suffix != ".tmp" and (p / STATE_FILE).exists())


def latest_checkpoint(root: Path) -> Path | None:
    """The newest complete checkpoint, or None. ``latest`` may be missing (a kill between rename and pointer): the newest counts."""
    found = checkpoints(root)
    return found[-1] if found else None


def read_state(checkpoint: Path) -> dict:
    """The trainer state of ``checkpoint``."""
    return json.loads((checkpoint / STATE_FILE).read_text())


def _remove_unfinished(root: Path) -> None:
    for path in root.glob("*.tmp"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _flush(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            _flush_directory(path)
    _flush_directory(directory)


def _flush_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace_text(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(text + "\n")
    with open(unfinished, "rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def follow_umask(folder: Path) -> None:
    """Give the files of a model folder the permissions that `open` gives a new one there.

    safetensors writes for the owner alone, which locks others out of a shared disk.
    """
    probe = folder / f".umask.{os.getpid()}"
    file = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    granted = os.fstat(file).st_mode & 0o666
    os.close(file)
    probe.unlink()
    for path in folder.iterdir():
        if path.is_file() and path.stat().st_mode & 0o777 != granted:
            path.chmod(granted)
