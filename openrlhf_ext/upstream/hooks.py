"""Run code around the loading of a named module, without importing it.

A hook is a generator function ``hook(module)`` with one ``yield``: what stands before it runs before the module's own
code, what stands after it runs when the module is complete but before anybody can import a name from it.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from types import ModuleType

from openrlhf_ext.upstream import TESTED

Hook = Callable[[ModuleType], Iterator[None]]


class _Loader(importlib.abc.Loader):
    """The module's own loader, with the hooks entered around ``exec_module``; it takes itself out afterwards."""

    def __init__(self, inner: importlib.abc.Loader, hooks: Sequence[Hook]) -> None:
        self.inner, self.hooks = inner, hooks

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # inspect, pickle and linecache must see the module as if nothing had happened.
        module.__loader__ = self.inner
        if module.__spec__ is not None:
            module.__spec__.loader = self.inner
        with contextlib.ExitStack() as stack:
            for hook in self.hooks:
                stack.enter_context(contextlib.contextmanager(hook)(module))
            self.inner.exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the hooked modules with Python's own path finder and wraps their loaders."""

    def __init__(self) -> None:
        self.hooks: dict[str, list[Hook]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        hooks = self.hooks.get(name)
        if not hooks:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, hooks)
        return spec


_FINDER = _Finder()


def require_tested_version() -> None:
    """Raise RuntimeError unless the installed OpenRLHF is the one whose internals are named here."""
    found = version("openrlhf")
    if found != TESTED:
        raise RuntimeError(
            f"openrlhf {found} is installed, but its internals are known for {TESTED} only: install openrlhf=={TESTED}"
        )


def register(hooks: Mapping[str, Hook]) -> None:
    """Let each hook run when its module is loaded. Registering the same hook again changes nothing.

    Raises:
        RuntimeError: a module of the list is loaded already, so its hook would never run.
    """
    new = {name: hook for name, hook in hooks.items() if hook not in _FINDER.hooks.get(name, [])}
    late = sorted(name for name in new if name in sys.modules)
    if late:
        raise RuntimeError(f"{', '.join(late)} imported too early: call openrlhf_ext.upstream.install() before")
    for name, hook in new.items():
        _FINDER.hooks.setdefault(name, []).append(hook)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def stand_in(value: object, module: ModuleType, name: str) -> None:
    """Put ``value`` in the place of ``module.name`` and let it be pickled as that name.

    A worker that unpickles it gets what *its* process holds under the name: the seam on a CPU, upstream's own on a GPU.
    """
    value.__module__, value.__name__, value.__qualname__ = module.__name__, name, name  # type: ignore[attr-defined]
    setattr(module, name, value)
