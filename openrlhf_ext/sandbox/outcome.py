"""The words of this room: what a program may use up, how it ended, and what keeps it in."""

from dataclasses import asdict, dataclass

MAX_OUTPUT = 65536
"""Bytes that a program may print, to both streams together."""
LAYERS = ("seccomp", "landlock", "pid namespace", "network namespace", "ipc namespace", "empty root", "other user")
"""What the kernel can be asked for, beside the limits (rlimits, wall clock, process sweep), which are always there."""


class SandboxError(RuntimeError):
    """The sandbox itself failed: no verdict about a program can be given."""


@dataclass(frozen=True)
class Limits:
    """What one program may use. Its CPU time decides; the wall clock is for programs that wait instead of computing."""

    cpu_seconds: float = 2.0
    wall_seconds: float = 10.0
    memory_mib: int = 512
    """Beyond what the interpreter with its modules already maps."""

    def __post_init__(self) -> None:
        if self.cpu_seconds <= 0 or self.wall_seconds <= 0 or self.memory_mib < 16:
            raise ValueError(f"{self}: give some CPU time, some wall time and at least 16 MiB")

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """How a program ended. ``number`` is what `solution()` returned, in the digits of `repr(float)`; None unless ok.

    status: ok; error (it raised, or returned no finite number); time (CPU or wall limit); memory; output (it printed more
    than `MAX_OUTPUT` bytes); killed (by a signal, for a forbidden system call, or it ended itself).
    """

    status: str
    number: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Capabilities:
    """Which of `LAYERS` hold on this machine, and why the others do not."""

    active: tuple[str, ...]
    missing: dict[str, str]

    @property
    def confined(self) -> bool:
        """Whether the kernel keeps a program from files, the network and processes that outlive it."""
        keeps_processes = "seccomp" in self.active or "pid namespace" in self.active
        keeps_files = bool({"seccomp", "landlock", "empty root"} & set(self.active))
        keeps_network = "seccomp" in self.active or "network namespace" in self.active
        return keeps_processes and keeps_files and keeps_network

    def problems(self) -> list[str]:
        """What a person must know; empty where programs are confined."""
        if self.confined:
            return []
        reasons = "; ".join(f"{layer}: {reason}" for layer, reason in self.missing.items())
        return [
            "programs of the model are not confined by the kernel here: they are limited in time, memory and file size, but could reach "
            f"files, the network or other processes ({reasons}). Run on Linux 5.13 or later with seccomp, or as root in a container that "
            "may make namespaces"
        ]
