"""Resident memory of this process and of its children, from /proc."""

from __future__ import annotations

import os

PAGE = os.sysconf("SC_PAGE_SIZE")


def process_gib(pid: int | str = "self") -> float:
    """Resident memory in GiB; 0 for a process that has ended."""
    try:
        with open(f"/proc/{pid}/statm") as statm:
            return int(statm.read().split()[1]) * PAGE / 2**30
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def tree_gib(root: int | None = None) -> float:
    """Resident memory of ``root`` (default: this process) and everything it started, in GiB. Shared pages count once per process."""
    root = os.getpid() if root is None else root
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            parent = _parent(entry)
            if parent is not None:
                children.setdefault(parent, []).append(int(entry))
    total, pending = 0.0, [root]
    while pending:
        pid = pending.pop()
        total += process_gib(pid)
        pending += children.get(pid, [])
    return total


def _parent(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
