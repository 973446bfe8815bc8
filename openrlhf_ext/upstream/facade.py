"""What the name ``torch`` means inside the few OpenRLHF modules that ask for the current CUDA device.

Real torch is untouched: only these modules' global ``torch`` is this object, which answers the questions about the
device with the CPU and forwards everything else.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any


def no_cuda() -> bool:
    """True where this process has no CUDA device."""
    import torch

    return not torch.cuda.is_available()


class _Cuda:
    """``torch.cuda`` for a CPU: the current device is "cpu", waiting for it is nothing."""

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch.cuda, name)

    def current_device(self) -> str:
        return "cpu"

    def set_device(self, device: object) -> None:
        return None

    def synchronize(self, device: object = None) -> None:
        return None

    def current_stream(self, device: object = None) -> None:
        return None

    def empty_cache(self) -> None:
        return None


class CpuTorch:
    """torch, with ``cuda`` answered for a CPU and "cuda..." devices meaning "cpu"."""

    cuda = _Cuda()

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch, name)

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray ships decorated classes by value, together with the globals that their methods use.
        return torch_here, ()

    def device(self, spec: Any, *index: int) -> Any:
        import torch

        return torch.device("cpu") if str(spec).startswith("cuda") else torch.device(spec, *index)


CPU_TORCH = CpuTorch()


def torch_here() -> CpuTorch | ModuleType:
    """The ``torch`` that OpenRLHF's modules see in this process: a driver without a GPU may have workers with one."""
    import torch

    return CPU_TORCH if no_cuda() else torch
