"""vLLM engines as OpenRLHF makes them, with our precision, our resources and the checked weight sync.

Importing this module imports vLLM: late, and only in processes that run an engine or make one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from openrlhf.trainer.ray import vllm_engine

from openrlhf_ext.upstream.actors import undecorated
from openrlhf_ext.upstream.bundles import bundles_by_node
from openrlhf_ext.upstream.digest import Entry, restored
from openrlhf_ext.upstream.precision import engine_dtype

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.util.placement_group import PlacementGroup

WORKER = "openrlhf_ext.upstream.worker.SyncWorker"


class EngineActor(undecorated(vllm_engine.RolloutRayActor)):  # type: ignore[misc]
    """OpenRLHF's rollout actor; ``sync_digest`` tells what its workers received."""

    async def sync_digest(self) -> list[tuple[list[Entry], list[str]]]:
        """Per vLLM worker: what arrived since the last call, and which of its parameters nothing reached."""
        answers = await self.llm.collective_rpc("sync_digest")
        # Between vLLM's processes tuples become lists.
        return [([restored(item) for item in received], list(untouched)) for received, untouched in answers]


class _EngineMaker:
    """Takes the place of ``vllm_engine.RolloutRayActor`` while upstream's loop makes the engines.

    That loop (``vllm_engine.py:244-312``, 0.11.2) writes the dtype, the worker extension and GPU resources out.
    """

    def __init__(self, kind: type, cpus: float, gpus: float, arguments: Mapping[str, Any]) -> None:
        self.actor = ray.remote(kind)
        self.resources = {"num_cpus": cpus, "num_gpus": gpus}
        self.arguments = dict(arguments)

    def options(self, **options: Any) -> _EngineMaker:
        self.decorated = self.actor.options(**{**options, **self.resources})
        return self

    def remote(self, **arguments: Any) -> ActorHandle:
        return self.decorated.remote(**{**arguments, **self.arguments})


def create_engines(
    num_engines: int,
    model: str,
    *,
    param_dtype: str,
    max_model_len: int,
    placement_group: PlacementGroup,
    cpus: float,
    gpus: float,
    seed: int,
    tensor_parallel_size: int = 1,
    enforce_eager: bool = False,
    enable_prefix_caching: bool = False,
    gpu_memory_utilization: float = 0.9,
    enable_sleep: bool = False,
    logprobs_mode: str | None = None,
    agent_func_path: str | None = None,
    reward_path: str | None = None,
    full_determinism: bool = False,
    engine_arguments: Mapping[str, Any] | None = None,
    actor_class: type = EngineActor,
) -> list[ActorHandle]:
    """Start ``num_engines`` engines in the bundles of ``placement_group``; returns before they are up.

    Engine ``i`` sits in bundle ``i``, or with tensor parallelism in the bundles that ``bundles_by_node`` gives it.

    Args:
        param_dtype: ``ds.param_dtype`` of the trainer: float32, bf16 or fp16. The engine computes in the same.
        cpus: what one engine takes from its bundle.
        gpus: what one vLLM worker takes from its bundle: a fraction where bundles are shared, 0 on a CPU machine.
        engine_arguments: more arguments of ``vllm.AsyncEngineArgs``.

    Raises:
        ValueError: an engine finds no node with all the bundles it needs.
    """
    arguments: dict[str, Any] = {
        "dtype": engine_dtype(param_dtype),
        "worker_extension_cls": WORKER,
        "num_gpus": gpus,
        **(engine_arguments or {}),
    }
    # With tensor parallelism vLLM's own Ray workers hold the GPUs, and the actor none.
    own_gpus = gpus if tensor_parallel_size == 1 else 0
    maker = _EngineMaker(actor_class, cpus, own_gpus, arguments)
    order: list[int] = []
    if tensor_parallel_size > 1:
        nodes = ray.util.placement_group_table(placement_group)["bundles_to_node_id"]
        order = bundles_by_node(nodes, num_engines, tensor_parallel_size)
    with _made_by(maker, order):
        return vllm_engine.create_vllm_engines(
            num_engines,
            tensor_parallel_size,
            model,
            seed,
            full_determinism,
            enable_prefix_caching,
            enforce_eager,
            max_model_len,
            placement_group,
            gpu_memory_utilization,
            enable_sleep,
            logprobs_mode,
            agent_func_path=agent_func_path,
            remote_rm_url=reward_path,
        )


@contextmanager
def _made_by(maker: _EngineMaker, order: list[int]) -> Iterator[None]:
    """Upstream's loop makes its engines with ``maker``, in the bundles of ``order``.

    Upstream sorts the bundles by node too, but cuts the sorted list without regard to where a node ends.
    """

    def bundles(placement_group: PlacementGroup, index: int, length: int) -> list[int]:
        return order[index * length : (index + 1) * length]

    original = vllm_engine.RolloutRayActor, vllm_engine.get_bundle_indices
    vllm_engine.RolloutRayActor, vllm_engine.get_bundle_indices = maker, bundles
    try:
        yield
    finally:
        vllm_engine.RolloutRayActor, vllm_engine.get_bundle_indices = original
