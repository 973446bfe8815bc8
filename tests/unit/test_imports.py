"""Who may import whom (docs/architecture.md), read from the source: nothing is imported here but in one fresh process."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import openrlhf_ext

PACKAGE = Path(openrlhf_ext.__file__).parent
HEAVY = ("torch", "ray", "vllm", "openrlhf", "deepspeed", "transformers", "datasets", "numpy", "matplotlib")

ALLOWED: dict[str, set[str]] = {
    "sandbox": set(),
    "tasks": {"sandbox"},
    "losses": set(),
    "record": set(),
    "upstream": set(),
    "checkpoint": set(),
    "session": set(),
    "cluster": set(),
    "memory": set(),
    "plan": {"cluster", "memory"},
    "data": {"tasks"},
    "config": {"upstream"},
    "curriculum": set(),
    "rollout": {"curriculum", "tasks", "data", "upstream"},
    "workers": {"upstream"},
    "methods": {"checkpoint", "curriculum", "data", "losses", "record", "rollout", "upstream", "workers"},
    "topology": {"plan", "rollout"},
    "training_loop": {"checkpoint", "record", "rollout"},
    "trainer": {"evaluate", "losses", "memory_use", "methods", "record", "rollout", "training_loop"},
}
"""Room -> rooms that it may import; rooms above these (launch, preflight, prepare, train, cli, ...) may import any that lead to no cycle."""

FREE_OF: dict[str, tuple[str, ...]] = {
    "sandbox": HEAVY,
    "tasks": HEAVY,
    "data": HEAVY,
    "curriculum": HEAVY,
    "record": HEAVY,
    "plan": HEAVY,
    "config": HEAVY,
    "settings": HEAVY,
    "memory": HEAVY,
    "checkpoint": HEAVY,
    "losses": tuple(name for name in HEAVY if name != "torch"),
}
"""Leaves never import these, early or late (type hints and the plotting of reports excepted)."""

IMPORTS_OPENRLHF = ("upstream", "methods", "trainer", "workers", "launch", "topology", "rollout", "evaluate")
"""Only these know OpenRLHF."""


@dataclass(frozen=True)
class Import:
    """``file`` imports ``module``; ``early`` = when the file itself is imported."""

    file: str
    module: str
    early: bool

    @property
    def room(self) -> str:
        return room_of(self.file)

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def room_of(file: str) -> str:
    """The folder below the package, else the file; `launch_rollout.py` belongs to `launch`, `plan_text.py` to `plan`."""
    first = file.partition("/")[0].removesuffix(".py")
    return first if "/" in file else re.sub(r"^(launch|plan|preflight)_\w+$", r"\1", first)


def imports(source: str, file: str) -> Iterator[Import]:
    """All imports of a source text but those for type checkers."""

    def visit(node: ast.AST, early: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            yield from (Import(file, alias.name, early) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield from (Import(file, f"{base}.{a.name}" if base == "openrlhf_ext" else base, early) for a in node.names)
        else:
            early = early and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for child in ast.iter_child_nodes(node):
                yield from visit(child, early)

    yield from visit(ast.parse(source), True)


def everything() -> list[Import]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [i for path in files for i in imports(path.read_text("utf-8"), path.relative_to(PACKAGE).as_posix())]


ALL = everything()
OURS = [
    (i, room_of(i.module.split(".")[1] + ("/" if (PACKAGE / i.module.split(".")[1]).is_dir() else ".py")))
    for i in ALL
    if i.module.startswith("openrlhf_ext.") and not i.module.startswith("openrlhf_ext.__")
]


def test_the_reader_sees_early_late_and_typing_imports_apart() -> None:
    text = (
        "import torch\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ray\n"
        "def f():\n    from openrlhf_ext import upstream\nclass C:\n    import vllm\ntry:\n    import numpy\nexcept E:\n    pass\n"
    )
    seen = {(i.module, i.early) for i in imports(text, "x.py")}
    assert seen == {
        ("torch", True),
        ("typing", True),
        ("openrlhf_ext.upstream", False),
        ("vllm", True),
        ("numpy", True),
    }


def test_rooms_are_named_by_folder_or_file() -> None:
    files = (
        "tasks/game24/task.py",
        "launch_rollout.py",
        "plan_text.py",
        "preflight_data.py",
        "memory_use.py",
        "cli.py",
    )
    assert [room_of(file) for file in files] == ["tasks", "launch", "plan", "preflight", "memory_use", "cli"]


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    found = {f"{i.file}: {target}" for i, target in OURS if i.room == room != target and target not in ALLOWED[room]}
    assert not found, f"docs/architecture.md does not let {room} import these"


def test_configuration_takes_only_the_parsers_from_upstream() -> None:
    found = {i.module for i in ALL if i.room == "config" and i.module.startswith("openrlhf_ext.upstream")}
    assert found <= {"openrlhf_ext.upstream", "openrlhf_ext.upstream.cli"}


def test_no_two_rooms_need_each_other() -> None:
    edges: dict[str, set[str]] = {}
    for i, target in OURS:
        if i.room != target and i.room not in ("cli", "jobs"):  # jobs runs command lines through cli
            edges.setdefault(i.room, set()).add(target)
    done: set[str] = set()

    def visit(room: str, path: tuple[str, ...]) -> None:
        assert room not in path, f"rooms in a circle: {' -> '.join([*path[path.index(room) :], room])}"
        if room not in done:
            for target in sorted(edges.get(room, ())):
                visit(target, (*path, room))
            done.add(room)

    for room in sorted(edges):
        visit(room, ())


@pytest.mark.parametrize("room", FREE_OF)
def test_leaves_stay_light(room: str) -> None:
    found = {f"{i.file}: {i.module}" for i in ALL if i.room == room and i.top in FREE_OF[room]}
    assert not found


def test_only_the_rooms_that_extend_openrlhf_import_it() -> None:
    found = {f"{i.file}: {i.module}" for i in ALL if i.top == "openrlhf" and i.room not in IMPORTS_OPENRLHF}
    assert not found


def test_light_commands_import_nothing_heavy() -> None:
    # One fresh process: what `--help`, `doctor`, `prepare`, `grade`, `report`, `train --dry-run` and a wrong request load first.
    program = (
        "import sys, json, importlib\n"
        "from openrlhf_ext.cli import COMMANDS\n"
        "loaded = {}\n"
        "for name, command in COMMANDS.items():\n"
        "    importlib.import_module(command.module)\n"
        f"    loaded[name] = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]\n"
        "print(json.dumps(loaded))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=250)
    loaded = json.loads(done.stdout)
    assert {"doctor", "prepare", "train", "grade", "report"} <= set(loaded)
    assert not any(loaded.values()), loaded
