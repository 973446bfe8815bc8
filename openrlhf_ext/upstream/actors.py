"""Reopen Ray-decorated classes, and run an upstream program on the ranks of a group."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from openrlhf_ext.upstream.cli import PROGRAMS

if TYPE_CHECKING:
    import argparse

    from ray import ObjectRef


def undecorated(actor_class: type) -> type:
    """The class behind ``@ray.remote``; it can be subclassed and decorated again.

    The only place that knows where Ray (2.55) keeps it. Raises TypeError for a class that Ray did not decorate.
    """
    metadata = getattr(actor_class, "__ray_metadata__", None)
    if metadata is None:
        raise TypeError(f"{actor_class!r} is not a class decorated with @ray.remote")
    return metadata.modified_class.__ray_actor_class__


class ProgramError(RuntimeError):
    """An upstream program failed on one rank; ``trace`` is the traceback of that process."""

    def __init__(self, program: str, rank: int, summary: str, trace: str) -> None:
        super().__init__(program, rank, summary, trace)
        self.program, self.rank, self.summary, self.trace = program, rank, summary, trace

    def __str__(self) -> str:
        return f"{self.program} failed on rank {self.rank}: {self.summary}\n{self.trace}"


class ProgramActor:
    """One rank of an upstream program; decorate with ``ray.remote`` and place it like any other worker.

    The constructor joins no group yet: it writes the rendezvous into the environment of its process, where upstream's
    strategy looks for it. Rank 0 passes None twice and is asked for its address; the others are given it.
    """

    def __init__(self, world_size: int, rank: int, master_addr: str | None, master_port: int | None) -> None:
        from openrlhf.trainer.ray.launcher import BaseDistributedActor

        self._rank = rank
        self._rendezvous = BaseDistributedActor(world_size, rank, master_addr, master_port)

    def get_master_addr_port(self) -> tuple[str, int]:
        """Where rank 0 will listen."""
        return self._rendezvous.get_master_addr_port()

    def run(
        self,
        program: str,
        args: argparse.Namespace,
        substitutions: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Run ``openrlhf.cli.train_{sft,rm,dpo}.train(args)`` in this process until it ends.

        Args:
            program: "sft", "rm" or "dpo".
            args: from ``upstream.cli.parse``, the same on every rank.
            substitutions: name of a class or function in the program's module -> import path ("pkg.mod:Class") of what
                stands for it during this run.
            environment: variables for this process alone, such as a key that Ray's runtime environment would show.

        Raises:
            ProgramError: whatever made the program stop, with this process's traceback.
        """
        started = time.monotonic()
        os.environ.update(environment or {})
        try:
            module = importlib.import_module(f"openrlhf.cli.{PROGRAMS[program]}")
            with substituted(module, {name: imported(path) for name, path in substitutions.items()}):
                module.train(args)
        except (Exception, SystemExit) as failure:
            summary = f"{type(failure).__name__}: {failure}"
            raise ProgramError(program, self._rank, summary, traceback.format_exc()) from None
        return {"program": program, "rank": self._rank, "seconds": time.monotonic() - started}


def imported(path: str) -> Any:
    """The object at ``pkg.mod:Name``; ValueError for another form."""
    module, colon, name = path.partition(":")
    if not colon or not name:
        raise ValueError(f"{path!r} is no import path: write package.module:Name")
    return getattr(importlib.import_module(module), name)


@contextlib.contextmanager
def substituted(module: ModuleType, names: Mapping[str, Any]) -> Iterator[None]:
    """Let globals of ``module`` be others inside the block. ValueError for a name that the module does not have."""
    unknown = sorted(set(names) - set(vars(module)))
    if unknown:
        raise ValueError(f"{module.__name__} has no {', '.join(unknown)} to put something else in the place of")
    originals = {name: getattr(module, name) for name in names}
    vars(module).update(names)
    try:
        yield
    finally:
        vars(module).update(originals)


def gather(refs: Sequence[ObjectRef], timeout_s: float | None = None) -> list[Any]:
    """Results of all ranks in order; the first failure is raised at once, not when a rank that waits for it gives up.

    Raises:
        TimeoutError: not all were done after ``timeout_s`` seconds.
    """
    import ray

    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    waiting = list(refs)
    while waiting:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        done, waiting = ray.wait(waiting, num_returns=1, timeout=left)
        if not done:
            raise TimeoutError(f"{len(waiting)} of {len(refs)} ranks were not done after {timeout_s:g} s")
        ray.get(done)
    return ray.get(list(refs))
