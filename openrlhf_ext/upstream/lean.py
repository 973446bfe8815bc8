"""Start-up on a CPU: what no process needs, no process imports.

OpenRLHF's modules import vLLM at the top although only an engine uses it, and DeepSpeed and OpenRLHF compile a few
functions when they are loaded, which imports torch's compiler although ``TORCHDYNAMO_DISABLE=1`` keeps it off. On a
laptop these imports are most of the time to the first step; docs/upstream.md has the figures. Nothing is computed
differently: vLLM is loaded when it is first used, and a function that would run uncompiled stays as it is.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions, version
from types import ModuleType
from typing import Any

from openrlhf_ext.upstream import hooks
from openrlhf_ext.upstream.facade import no_cuda


class DeferredCall:
    """``pkg.mod.name(*args, **kwargs)``, made by the process that unpickles it; keyword arguments are attributes."""

    def __init__(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        vars(self).update(_path=path, _args=args, _kwargs=kwargs)

    def __getattr__(self, name: str) -> Any:
        kwargs = vars(self).get("_kwargs", {})
        if name not in kwargs:
            raise AttributeError(f"{name} was not given to {vars(self).get('_path')}")
        return kwargs[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._kwargs[name] = value

    def __reduce__(self) -> tuple[Any, ...]:
        return _call, (self._path, self._args, self._kwargs)


def sampling_params(**options: Any) -> DeferredCall:
    """``vllm.SamplingParams(**options)`` for a process that only hands them to engines: it need not import vLLM."""
    return DeferredCall("vllm.SamplingParams", (), options)


def _call(path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)(*args, **kwargs)


class _LaterModule(ModuleType):
    """Stands for a module until one of its names is used."""

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return version(packages_distributions()[self.__name__][0])
        if name.startswith("__"):  # what the import system and inspect ask for
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray ships decorated classes by value, together with the globals that their methods use.
        return importlib.import_module, (self.__name__,)


def _later(path: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return _call(path, args, kwargs)

    return call


def _deferred(path: str) -> Callable[..., DeferredCall]:
    def record(*args: Any, **kwargs: Any) -> DeferredCall:
        return DeferredCall(path, args, kwargs)

    return record


def _vllm_later(module: ModuleType) -> Iterator[None]:
    if "vllm" in sys.modules or not no_cuda():
        yield
        return
    names = {
        "vllm": {"SamplingParams": _deferred("vllm.SamplingParams")},
        "vllm.inputs": {"TokensPrompt": _later("vllm.inputs.TokensPrompt")},
        "vllm.utils": {"random_uuid": _later("vllm.utils.random_uuid")},
    }
    for name, content in names.items():
        sys.modules[name] = _LaterModule(name)
        vars(sys.modules[name]).update(content)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _uncompiled(module: ModuleType) -> Iterator[None]:
    if os.environ.get("TORCHDYNAMO_DISABLE") != "1" or not no_cuda():
        yield
        return
    import torch

    def as_it_is(model: Callable[..., Any] | None = None, **options: Any) -> Any:
        return model if model is not None else lambda function: function

    compiling, torch.compile = torch.compile, as_it_is
    try:
        yield
    finally:
        torch.compile = compiling


HOOKS: dict[str, hooks.Hook] = {
    "deepspeed": _uncompiled,
    "openrlhf.models.utils": _uncompiled,
    "openrlhf.trainer.ppo_utils.samples_generator": _vllm_later,
    "openrlhf.trainer.ray.vllm_engine": _vllm_later,
}
"""Modules that import more than they use, and what they find instead while they are loaded."""


def install() -> None:
    """Register the hooks; nothing changes where there is a CUDA device."""
    hooks.register(HOOKS)
