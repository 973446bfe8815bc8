"""On a CPU, vLLM's engine core is a fork of the engine actor and not a new interpreter.

vLLM starts its engine core in a process of its own and spawns it inside a Ray actor (``vllm/utils/system_utils.py:126``,
0.29.0) and on a CPU (``vllm/platforms/cpu.py:347``): a second import of torch, Ray and vLLM, 11 s of processor time after
the first one. Where no CUDA context exists a fork is safe: the child shares the imports, calls nothing of Ray, and its
parent has run no OpenMP loop yet.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from openrlhf_ext.upstream import hooks
from openrlhf_ext.upstream.facade import no_cuda

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends.

    A fork holds copies of the parent's sockets: were it to live on, Ray would not notice that the actor is gone.
    """
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _may_fork(module: ModuleType) -> Iterator[None]:
    yield
    if no_cuda():
        module.get_mp_context = lambda: multiprocessing.get_context("fork")  # type: ignore[attr-defined]


def _core_dies_with_its_actor(module: ModuleType) -> Iterator[None]:
    yield
    if not no_cuda():
        return
    run_engine_core = module.EngineCoreProc.run_engine_core

    def bound_to_its_parent(*args: Any, **kwargs: Any) -> None:
        die_with_parent()
        run_engine_core(*args, **kwargs)

    module.EngineCoreProc.run_engine_core = staticmethod(bound_to_its_parent)


HOOKS: dict[str, hooks.Hook] = {
    "vllm.utils.system_utils": _may_fork,
    "vllm.v1.engine.core": _core_dies_with_its_actor,
}
"""vLLM's modules that decide how the engine core starts."""


def install() -> None:
    """Register the hooks; nothing changes where there is a CUDA device, nor where vLLM is loaded already."""
    hooks.register({name: hook for name, hook in HOOKS.items() if name not in sys.modules})
