"""A JSON-lines file that grows wave by wave and that a killed command goes on with.

FILE                  one row per line, in a fixed order, appended a wave at a time
FILE.request.json     what was asked, for `--resume` to compare

How one row comes about is no matter of this module: sampling, agents in an environment and explorers write through it alike.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from openrlhf_ext.config.problem import Problem
from openrlhf_ext.record.jsonl import disk_errors, dumps, parse_row, sync_folder, write_atomic
from openrlhf_ext.record.lock import not_locked


def request_file(path: Path) -> Path:
    """Where the request of `path` is kept."""
    return path.with_name(f"{path.name}.request.json")


def out_problems(path: Path, resume: bool) -> list[Problem]:
    """May rows be written into `path`? Nothing is written here."""
    if path.suffix != ".jsonl":
        return [Problem("--out", f"{path} is no .jsonl file", "rows are appended one by one: give a name with .jsonl")]
    if path.is_dir():
        return [Problem("--out", f"{path} is a folder", "give a file's name")]
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        return [Problem("--out", f"{parent} is not a writable folder", "choose another place")]
    known, present = request_file(path).exists(), path.exists()
    if known and not resume:
        return [Problem("--out", f"{path} already holds rows", "go on with --resume, or choose another file")]
    if present and not known:
        what = f"{path} exists and {request_file(path).name} does not, so nobody knows what was asked"
        return [Problem("--out", what, "choose another file, or remove it")]
    return [Problem("--resume", f"{path} is not there yet: it starts", "", note=True)] if resume and not known else []


def resume_problems(path: Path, request: Mapping[str, object]) -> list[Problem]:
    """In what the request that began `path` differs from this one; nothing where there is none."""
    if not request_file(path).exists():
        return []
    earlier = json.loads(request_file(path).read_text(encoding="utf-8"))
    now = json.loads(json.dumps(dict(request)))  # tuples are lists there
    return [
        Problem(
            f"--resume: {key}",
            f"{path} was begun with {earlier.get(key)!r}, this request has {now.get(key)!r}",
            "repeat the first command with --resume, or choose another --out",
        )
        for key in sorted(earlier.keys() | now.keys())
        if earlier.get(key) != now.get(key)
    ]


class GrowingFile:
    """The file while it is written; held by one process at a time. A context manager.

    `seen(number, row)` is called for every row that is already there, in order: it may count, and raises ValueError for a stranger.
    `rows`: how many there are; `dropped`: 1 where a kill had left a torn last line.
    """

    def __init__(self, path: Path, request: Mapping[str, object], seen: Callable[[int, dict], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a+b")
        try:
            # flock, not lockf: closing another descriptor of the file in this process must not let go of it.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise RuntimeError(not_locked(path, error)) from error
        try:
            if not request_file(path).exists():
                write_atomic(request_file(path), [json.dumps(dict(request), indent=2), "\n"])
            self.rows, self.dropped = self._recover(seen)
        except BaseException:
            self._file.close()
            raise

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Add one wave: one write, synced. A full disk leaves the file as it was."""
        lines = [dumps(row) + "\n" for row in rows]
        data = "".join(lines).encode()
        size = self._file.seek(0, os.SEEK_END)
        with disk_errors(self.path, kept=f"the {self.rows} rows of earlier waves"):
            try:
                self._file.write(data)
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(size)
                raise
        self.rows += len(lines)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> GrowingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _recover(self, seen: Callable[[int, dict], None]) -> tuple[int, int]:
        """(whole rows, torn lines cut off). Raises ValueError for a line that cannot be read before the last."""
        self._file.seek(0)
        rows = end = 0
        for line in self._file:
            row = parse_row(line)
            if row is None and line.endswith(b"\n"):
                raise ValueError(
                    f"{self.path}:{rows + 1}: not a JSON object: remove the lines from there on, or the file"
                )
            if row is None or not line.endswith(b"\n"):
                self._file.truncate(end)
                self._file.seek(0, os.SEEK_END)
                return rows, 1
            seen(rows, row)
            rows, end = rows + 1, end + len(line)
        sync_folder(self.path.parent)
        return rows, 0
