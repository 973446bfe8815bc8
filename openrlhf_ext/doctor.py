"""`openrlhf-ext doctor`: what this machine can run, what is missing, the exact fix. Standard library only."""

import importlib.metadata
import re
from pathlib import Path


def installed_version(package: str) -> str | None:
    """The version of an installed package, read from its metadata without importing it; None where it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_lock(path: Path) -> dict[str, str]:
    """name -> exact version, from a lock file of `name==version` lines; comments are ignored."""
    pins: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"([A-Za-z0-9][\w.-]*)==(\S+)", line)
        if match:
            pins[match[1]] = match[2]
    return pins


def differing_pins(pins: dict[str, str]) -> dict[str, tuple[str, str | None]]:
    """name -> (locked, installed or None) for every pin that the running Python's environment does not satisfy."""
    found = {name: installed_version(name) for name in pins}
    return {name: (locked, found[name]) for name, locked in pins.items() if found[name] != locked}
