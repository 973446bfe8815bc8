"""What every command that starts engines shares: its options and their checks, where it runs, and how its end is told."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openrlhf_ext.config.problem import Problem, notes
from openrlhf_ext.evaluate.option_checks import below_one
from openrlhf_ext.tasks.options import did_you_mean

if TYPE_CHECKING:
    from openrlhf_ext.evaluate.options import EngineOptions


@dataclass(frozen=True)
class Place:
    """Where a command runs: device and precision of its engines, and the cores and GPUs of this machine."""

    device: str
    precision: str
    cores: int
    gpus: int

    @classmethod
    def of(cls, args: argparse.Namespace) -> Place:
        """The place that the options choose; "auto" is decided here."""
        from openrlhf_ext.cluster import Cluster, visible_gpus
        from openrlhf_ext.config.device import precision_of

        machine = Cluster.local()
        device = machine.device if args.device == "auto" else args.device
        return cls(device, precision_of(args.precision, device), int(machine.cpus), len(visible_gpus()))


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """How the engines of a command are started."""
    engine = parser.add_argument_group("engines")
    engine.add_argument(
        "--engines", type=int, default=1, metavar="N", help="engines that share the problems (default 1)"
    )
    engine.add_argument(
        "--tensor-parallel-size",
        "--tensor-parallel",
        type=int,
        default=1,
        metavar="N",
        help="GPUs per engine (default 1)",
    )
    engine.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    engine.add_argument(
        "--precision",
        choices=("auto", "float32", "bf16", "fp16"),
        default="auto",
        help="auto = float32 on CPU, bf16 on GPU",
    )
    engine.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads per engine (default: the cores shared among them)"
    )
    engine.add_argument(
        "--kv-cache-gib", type=int, default=1, metavar="N", help="key/value cache per engine on CPU (default 1)"
    )
    engine.add_argument("--gpu-memory-utilization", type=float, default=0.9, metavar="X", help="default 0.9")
    engine.add_argument(
        "--wave", type=int, default=256, metavar="N", help="answers asked for at once, and kept together (default 256)"
    )
    engine.add_argument(
        "--engine-timeout", type=float, default=900.0, metavar="S", help="seconds for an engine to start (default 900)"
    )
    engine.add_argument(
        "--wave-timeout", type=float, default=3600.0, metavar="S", help="seconds for one wave (default 3600)"
    )
    engine.add_argument(
        "--ray-address", default="auto", metavar="A", help="auto = RAY_ADDRESS, else a session of its own; local"
    )


def engine_options(args: argparse.Namespace, place: Place) -> EngineOptions:
    """The options as the engines take them; the machine's cores are shared among its engines."""
    from openrlhf_ext.evaluate.options import EngineOptions

    return EngineOptions(
        device=place.device,
        precision=place.precision,
        count=args.engines,
        tensor_parallel_size=args.tensor_parallel_size,
        threads=args.threads or max(1, place.cores // args.engines),
        kv_cache_gib=args.kv_cache_gib,
        gpu_memory_utilization=args.gpu_memory_utilization,
        ray_address=args.ray_address,
        wave=args.wave,
        seed=args.seed,
        start_timeout=args.engine_timeout,
        wave_timeout=args.wave_timeout,
    )


def engine_problems(args: argparse.Namespace, device: str, gpus: int | None) -> list[Problem]:
    """Numbers out of range, and more than this machine has. ``gpus``: how many it has; None = no engine is started here."""
    counts = ("engines", "tensor_parallel_size", "wave", "kv_cache_gib", "threads")
    found = below_one((name.replace("_", "-"), getattr(args, name)) for name in counts)
    for name in ("engine_timeout", "wave_timeout"):
        if not getattr(args, name) > 0:
            found.append(Problem(f"--{name.replace('_', '-')}", f"{getattr(args, name)} seconds", "give more than 0"))
    return found + _device_problems(args, device, gpus)


def _device_problems(args: argparse.Namespace, device: str, gpus: int | None) -> list[Problem]:
    """More GPUs than this machine has; a cluster's are only known after joining it."""
    wanted = args.engines * args.tensor_parallel_size
    if device == "cpu" and args.tensor_parallel_size > 1:
        what = f"{args.tensor_parallel_size} GPUs per engine, but the engines run on the CPU"
        return [Problem("--tensor-parallel-size", what, "leave it out")]
    if device == "cuda" and gpus is not None and not joined_by(args) and wanted > gpus:
        what = f"{args.engines} engines x {args.tensor_parallel_size} GPUs, this machine has {gpus}"
        return [Problem("--engines", what, "fewer engines, --device cpu, or RAY_ADDRESS of a cluster")]
    return []


def joined_by(args: argparse.Namespace) -> bool:
    """Whether the command joins a Ray cluster that is already there."""
    return bool(os.environ.get("RAY_ADDRESS")) if args.ray_address == "auto" else args.ray_address != "local"


def task_settings(args: argparse.Namespace) -> dict[str, str]:
    """The `--task.KEY VALUE` settings by KEY; `--task NAME` is `name`."""
    return {key.removeprefix("task."): value for key, value in args.settings if key.startswith("task.")}


def setting_problems(args: argparse.Namespace) -> list[Problem]:
    """Only `--task.*` settings belong here; anything else is a misspelt option."""
    options = [f"--{name.replace('_', '-')}" for name in vars(args) if name not in ("command", "settings")]
    return [
        Problem(f"--{key}", "no such option", did_you_mean(f"--{key}", [*options, "--task.name"]))
        for key, _ in args.settings
        if not key.startswith("task.")
    ]


def explain(failure: Exception) -> str:
    """The worker's own error first, then where its output is."""
    cause = getattr(failure, "cause", None)  # Ray wraps what a worker raised
    lines = [f"failed: {type(failure).__name__}: {failure}"]
    if cause is not None:
        lines = [f"failed in the engine: {type(cause).__name__}: {cause}", "", str(failure)]
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        from openrlhf_ext.session import log_directory

        lines.append(f"workers' output: {log_directory()}")
    return "\n".join(lines)


def remark(problems: Iterable[Problem]) -> None:
    """The notes among the problems, on the error stream."""
    for note in notes(problems):
        print(f"note: {note.where}: {note.what}", file=sys.stderr)


def carry_out(work: Callable[[], str], kept: str) -> int:
    """0 with what the work returns printed; 1 where it stops or fails, with how to go on from what is ``kept``."""
    go_on = f"{kept}; go on: the same command with --resume"
    try:
        text = work()
    except KeyboardInterrupt:
        print(f"stopped; {go_on}", file=sys.stderr)
        return 1
    except Exception as failure:
        print(f"{explain(failure)}\n{go_on}", file=sys.stderr)
        return 1
    print(text)
    return 0
