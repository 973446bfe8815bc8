"""The output folder of an evaluation: one graded row per response, complete groups only, so that a killed evaluation goes on.

OUT/evaluation.json            what was asked, for `--resume` to compare
OUT/<model>/results.jsonl      one row per response, appended as they come
OUT/<model>/summary.json       the model's figures
OUT/summary.md                 the table
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from openrlhf_ext.config.problem import Problem
from openrlhf_ext.record.jsonl import append_row, dumps, read_lines, repair_tail, write_atomic
from openrlhf_ext.record.lock import not_locked

GREEDY, SAMPLED = "greedy", "sampled"
REQUEST = "evaluation.json"


def out_problems(out: Path, resume: bool) -> list[Problem]:
    """May an evaluation be written into `out`? Nothing is written here."""
    if out.exists() and not out.is_dir():
        return [Problem("--out", f"{out} is a file", "choose another folder")]
    parent = next(path for path in [out.absolute(), *out.absolute().parents] if path.exists())
    if not os.access(parent, os.W_OK):
        return [Problem("--out", f"{parent} is not writable", "choose another folder")]
    if (out / REQUEST).exists():
        fix = "go on with --resume, or choose another folder"
        return [] if resume else [Problem("--out", f"{out} already holds an evaluation", fix)]
    if out.is_dir() and any(path.name != ".lock" for path in out.iterdir()):
        return [Problem("--out", f"{out} is not empty and holds no evaluation", "choose another folder")]
    return [Problem("--resume", f"{out} holds no evaluation yet: it starts", "", note=True)] if resume else []


def resume_problems(out: Path, request: Mapping[str, object]) -> list[Problem]:
    """In what an earlier evaluation in `out` differs from this one; nothing where there is none."""
    if not (out / REQUEST).exists():
        return []
    earlier = json.loads((out / REQUEST).read_text(encoding="utf-8"))
    changed = [
        Problem(
            f"--resume: {key}",
            f"the evaluation in {out} has {earlier.get(key)!r}, this request {request.get(key)!r}",
            "repeat the first command with --resume, or choose another --out",
        )
        for key in sorted(earlier.keys() | request.keys())
        if key != "models" and earlier.get(key) != request.get(key)
    ]
    return changed + _changed_models(out, earlier.get("models", {}), request["models"])  # type: ignore[arg-type]


def _changed_models(out: Path, earlier: Mapping[str, object], now: Mapping[str, object]) -> list[Problem]:
    return [
        Problem(
            f"--resume: {name}",
            f"the answers in {out / name} are those of {earlier[name]}, now it is {now[name]}",
            "choose another --out, or give the model another name (NAME=FOLDER)",
        )
        for name in earlier.keys() & now.keys()
        if earlier[name] != now[name]
    ]


class Results:
    """The folder while it is being written; held by one process at a time."""

    def __init__(self, out: Path, request: Mapping[str, object]) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        self._lock = os.open(out / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise RuntimeError(not_locked(out, error)) from error
        earlier = json.loads((out / REQUEST).read_text(encoding="utf-8")) if (out / REQUEST).exists() else {}
        models = {**earlier.get("models", {}), **request["models"]}  # type: ignore[dict-item]
        write_atomic(out / REQUEST, [json.dumps({**request, "models": models}, indent=2), "\n"])

    def close(self) -> None:
        os.close(self._lock)

    def model(self, name: str) -> ModelResults:
        """The rows of one model."""
        return ModelResults(self.out / name)


class ModelResults:
    """The graded rows of one model. A group is all answers to one problem in one mode; what a kill left of a group is dropped."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.file = folder, folder / "results.jsonl"
        self.rows: list[dict] = []

    def recover(self, sizes: Mapping[str, int]) -> int:
        """Read what is there; keep groups of exactly ``sizes[mode]`` answers. Returns the number of rows dropped."""
        torn = repair_tail(self.file) > 0
        lines = read_lines(self.file)
        groups: dict[tuple[str, int], dict[int, dict]] = {}
        for row in lines.rows:
            groups.setdefault((row["mode"], row["problem_id"]), {}).setdefault(row["sample"], row)
        whole = {key for key, group in groups.items() if sorted(group) == list(range(sizes.get(key[0], 0)))}
        seen: set[tuple[str, int, int]] = set()
        self.rows = []
        for row in lines.rows:
            key = (row["mode"], row["problem_id"], row["sample"])
            if key[:2] in whole and key not in seen:
                seen.add(key)
                self.rows.append(row)
        dropped = len(lines.rows) - len(self.rows)
        if dropped or lines.bad:
            write_atomic(self.file, (dumps(row) + "\n" for row in self.rows))
        return dropped + len(lines.bad) + torn

    def done(self, mode: str) -> set[int]:
        """Problems whose group is complete."""
        return {row["problem_id"] for row in self.rows if row["mode"] == mode}

    def append(self, rows: Iterable[dict]) -> None:
        """Add graded rows, group by group."""
        for row in rows:
            append_row(self.file, row, kept="every earlier row; go on with --resume")
            self.rows.append(row)

    def select(self, mode: str, problems: int) -> list[dict]:
        """Rows of one mode, of the first ``problems`` problems, in order of problem and sample."""
        chosen = [row for row in self.rows if row["mode"] == mode and row["problem_id"] < problems]
        return sorted(chosen, key=lambda row: (row["problem_id"], row["sample"]))

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Replace summary.json."""
        write_atomic(self.folder / "summary.json", [json.dumps(summary, indent=2), "\n"])


def pending(total: int, done: set[int]) -> Sequence[int]:
    """Problems still to be asked, in order."""
    return [i for i in range(total) if i not in done]
