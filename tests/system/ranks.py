"""A Ray session of CPU workers with the seam installed, and the ranks of a group in it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def session(module: str) -> Iterator[None]:
    """A session of its own; classes of the test module travel to its workers by value."""
    import ray

    from openrlhf_ext.session import worker_environment

    ray.cloudpickle.register_pickle_by_value(sys.modules[module])
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        runtime_env={
            "env_vars": worker_environment("cpu", threads=1, kv_cache_gib=1) | {"HF_HUB_OFFLINE": "1"},
            "worker_process_setup_hook": "openrlhf_ext.upstream.install",
        },
    )
    try:
        yield
    finally:
        ray.shutdown()


def group_of(rank: type, ranks: int) -> list:
    """Actors of ``rank``, which take (world size, rank, address, port) and tell the ``address()`` of the first."""
    import ray

    kind = ray.remote(rank).options(num_cpus=1)
    actors = [kind.remote(ranks, 0, None, None)]
    if ranks > 1:
        address, port = ray.get(actors[0].address.remote(), timeout=300)
        actors += [kind.remote(ranks, number, address, port) for number in range(1, ranks)]
    return actors
