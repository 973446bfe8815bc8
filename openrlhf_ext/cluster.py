"""The machines a plan is checked against: this one, a described one, or the nodes of a Ray cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class Node:
    """One machine. Memory in GiB; ``gpu_memory_gib`` is per GPU, 0 where it is not known."""

    name: str
    cpus: float
    gpus: float = 0
    memory_gib: float = 0.0
    gpu_memory_gib: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """All machines of a run."""

    nodes: tuple[Node, ...] = field(default_factory=tuple)

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)

    @property
    def device(self) -> str:
        """``"cuda"`` where any node has a GPU."""
        return "cuda" if self.gpus else "cpu"

    @classmethod
    def local(cls) -> Cluster:
        """This machine, as far as it may be used (affinity, control group, visible GPUs)."""
        return cls((Node("this machine", usable_cores(), len(visible_gpus()), total_memory_gib()),))

    @classmethod
    def of(cls, text: str) -> Cluster:
        """``"2x8"`` = 2 nodes of 8 GPUs; ``"2x8x80"`` = of 80 GiB each; ``"1x0"`` = one machine without.

        Each imagined node has 16 CPU cores per GPU (at least 16); its main memory is left open.

        Raises:
            ValueError: another form.
        """
        match = re.fullmatch(r"(\d+)x(\d+)(?:x(\d+))?", text)
        if not match or int(match[1]) < 1:
            raise ValueError(f"{text!r} is not NODESxGPUS, e.g. 2x8 (2 nodes of 8 GPUs) or 2x8x80 (of 80 GiB each)")
        nodes, gpus, gib = int(match[1]), int(match[2]), float(match[3] or 0)
        node = Node("", cpus=16 * max(gpus, 1), gpus=gpus, gpu_memory_gib=gib)
        return cls(tuple(replace(node, name=f"node {i}") for i in range(nodes)))

    @classmethod
    def at(cls, address: str) -> Cluster:
        """The live nodes of the Ray cluster at ``address``, which is joined for as long as it takes to ask.

        Raises:
            ConnectionError: none answers.
        """
        import ray

        joined = not ray.is_initialized()
        if joined:
            ray.init(address=address, log_to_driver=False)
        try:
            return cls.from_ray()
        finally:
            if joined:
                ray.shutdown()

    @classmethod
    def from_ray(cls) -> Cluster:
        """The live nodes of the Ray session that this process is connected to."""
        import ray

        alive = [node for node in ray.nodes() if node["Alive"]]
        return cls(
            tuple(
                Node(
                    name=node["NodeManagerAddress"],
                    cpus=node["Resources"].get("CPU", 0),
                    gpus=node["Resources"].get("GPU", 0),
                    memory_gib=node["Resources"].get("memory", 0) / 2**30,
                )
                for node in alive
            )
        )


def usable_cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def total_memory_gib() -> float:
    """Main memory of this machine in GiB, a control group's limit included."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    limit = next((path.read_text().strip() for path in limits if path.exists()), "max")
    return min(installed, int(limit) if limit.isdigit() else installed) / 2**30


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that CUDA would see here, found without importing torch; none where torch is a CPU build."""
    if _torch_is_cpu_only():
        return ()
    found = tuple(sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*")))
    if not found and (program := shutil.which("nvidia-smi")):
        listing = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=False)
        found = tuple(line.split(":")[0] for line in listing.stdout.splitlines() if line.startswith("GPU "))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name for name in chosen.split(",") if name.strip() and name.strip() != "-1"]
        found = tuple(names[: len(found)])
    return found


def _torch_is_cpu_only() -> bool:
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False
