"""Files that survive a kill: whole-file replacement, append-only JSON lines, and a reader that tolerates a torn last line.

A process can die at any byte. Whole files are written beside their target, synced and renamed, so a reader sees the old file or the
new one. Lines are appended with one write; what a kill can leave is one torn last line, which the reader drops and `repair_tail` mends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(OSError):
    """The disk (or the quota) is full. The message says which file could not be written and what was kept."""

    def __init__(self, path: Path, kept: str) -> None:
        super().__init__(
            errno.ENOSPC,
            f"no space left while writing {path}. Kept: {kept}. Free some space and run the same command with --resume",
        )


@dataclass(frozen=True)
class Lines:
    """What a JSON-lines file holds: the readable `rows`, the 1-based numbers of `bad` lines, and whether the last line was `torn`."""

    rows: list[dict] = field(default_factory=list)
    bad: tuple[int, ...] = ()
    torn: bool = False


@contextlib.contextmanager
def disk_errors(path: Path, kept: str) -> Iterator[None]:
    """Turn a full disk inside the block into `DiskFull`; every other error passes unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL and not isinstance(error, DiskFull):
            raise DiskFull(path, kept) from error
        raise


def write_atomic(path: Path, chunks: Iterable[str], kept: str = "the previous file, unchanged") -> Path:
    """Replace `path` by the joined chunks, or leave it as it was. Synced before the rename, so a crash cannot leave an empty file."""
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path, kept):
        try:
            with tmp.open("w", encoding="utf-8", newline="") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            os.replace(tmp, path)
        except BaseException:
            tmp.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)
    return path


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_row(path: Path, row: Mapping[str, object], kept: str = "every earlier line") -> None:
    """Append one JSON line. On failure the file is cut back to its old length, so a full disk leaves no torn line."""
    data = (dumps(row) + "\n").encode()
    with disk_errors(path, kept):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            try:
                while data:
                    data = data[os.write(handle, data) :]
            except OSError:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)


def dumps(row: Mapping[str, object]) -> str:
    """Standard JSON on one line: arrays and tensors become lists or numbers, NaN and infinities become null."""
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, default=plain)
    except ValueError:
        return json.dumps(finite(row), ensure_ascii=False, allow_nan=False)


def plain(value: object) -> object:
    """A JSON value for numpy and torch scalars and arrays, paths, tuples and sets."""
    to_list = getattr(value, "tolist", None)
    if callable(to_list):
        return to_list()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON: {value!r:.80}")


def finite(value: object) -> object:
    """The same value with every NaN and infinity replaced by None (JSON knows neither)."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return finite(plain(value))


def read_lines(path: Path) -> Lines:
    """Every readable row of a JSON-lines file. A missing file is an empty one. Never raises on content: bad lines are named, not hidden."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Lines()
    return parse_lines(data)


def parse_lines(data: bytes) -> Lines:
    """Rows of JSON-lines `data`. An unreadable last line without its newline is torn (a kill in the middle of a write), any other is bad."""
    rows, bad, torn = [], [], False
    *whole, tail = data.split(b"\n")
    for number, line in enumerate([*whole, tail], start=1):
        if not line.strip():
            continue
        row = parse_row(line)
        if row is not None:
            rows.append(row)
        elif number > len(whole):
            torn = True
        else:
            bad.append(number)
    return Lines(rows, tuple(bad), torn)


def parse_row(line: bytes) -> dict | None:
    """The JSON object on this line, or None when it is not one."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def repair_tail(path: Path) -> int:
    """Give the last line its newline, or cut it off where it is torn. Returns the number of bytes cut."""
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        data = file.read()
        if not data or data.endswith(b"\n"):
            return 0
        start = data.rfind(b"\n") + 1
        if parse_row(data[start:]) is not None:
            file.write(b"\n")
            return 0
        file.truncate(start)
        return len(data) - start
