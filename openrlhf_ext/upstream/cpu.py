"""The CPU seam: what OpenRLHF 0.11.2 has to hear on a machine without CUDA. It never changes maths.

Where a CUDA device exists nothing is touched. The question is asked when the first of the modules below is loaded, in
the process that loads it, so ``install()`` itself costs nothing. File and line of every assumption: docs/upstream.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from openrlhf_ext.upstream import hooks
from openrlhf_ext.upstream.facade import CPU_TORCH, no_cuda


def _facade(module: ModuleType) -> Iterator[None]:
    yield
    if no_cuda():
        module.torch = CPU_TORCH  # type: ignore[attr-defined]


def _padding(module: ModuleType) -> Iterator[None]:
    import transformers.modeling_flash_attention_utils  # noqa: F401  (probes for flash-attn: let it see the truth)

    from openrlhf_ext.upstream.padding import flash_attn_lent

    if not no_cuda():
        yield
        return
    with flash_attn_lent():
        yield
    module.torch = CPU_TORCH  # type: ignore[attr-defined]


def _collectives(module: ModuleType) -> Iterator[None]:
    yield
    if not no_cuda():
        return
    from openrlhf_ext.upstream.gloo import BroadcastGroup

    def torch_dist_barrier_and_cuda_sync() -> None:
        """Wait for every rank; there is no device to wait for."""
        import torch

        torch.distributed.barrier()

    def stateless_init_process_group(
        master_address: str, master_port: int, rank: int, world_size: int, device: object
    ) -> BroadcastGroup:
        """The weight-sync group between policy rank 0 and the engines, over gloo."""
        return BroadcastGroup(master_address, master_port, rank, world_size)

    hooks.stand_in(torch_dist_barrier_and_cuda_sync, module, "torch_dist_barrier_and_cuda_sync")
    hooks.stand_in(stateless_init_process_group, module, "stateless_init_process_group")


def _strategy(module: ModuleType) -> Iterator[None]:
    yield
    if not no_cuda():
        return
    module.torch = CPU_TORCH  # type: ignore[attr-defined]
    mesh_of = module.init_device_mesh

    def init_device_mesh(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return mesh_of("cpu", *args, **kwargs)

    class CpuStrategy(module.DeepspeedStrategy):  # type: ignore[name-defined, misc]
        """Adam and its moving average without CUDA kernels."""

        def get_ds_train_config(self, optim_dict: dict[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
            # FusedAdam compiles C++ for minutes on a CPU; torch's AdamW is the same update.
            if optim_dict is not None and optim_dict["type"] == "AdamW" and not self.adam_offload:
                optim_dict = {**optim_dict, "params": {**optim_dict["params"], "torch_adam": True}}
            return super().get_ds_train_config(optim_dict, **kwargs)

        def moving_average(self, model: Any, model_ema: Any, beta: float = 0.992, device: str = "cpu") -> None:
            # ppo_actor.py:365,367 name "cuda".
            super().moving_average(model, model_ema, beta, "cpu")

    module.init_device_mesh = init_device_mesh  # type: ignore[attr-defined]
    hooks.stand_in(CpuStrategy, module, "DeepspeedStrategy")


def _no_compiled_collectives(module: ModuleType) -> Iterator[None]:
    yield
    if no_cuda():
        # deepspeed/comm/torch.py:31 compiles a shared-memory all-reduce with g++ (75 s, and a compiler must be there): gloo does the same.
        module.build_shm_op = lambda: None  # type: ignore[attr-defined]


HOOKS: dict[str, hooks.Hook] = {
    "openrlhf.models.ring_attn_utils": _padding,
    "openrlhf.trainer.ppo_utils.replay_buffer": _facade,
    "openrlhf.trainer.ray.launcher": _facade,
    "openrlhf.trainer.ray.ppo_actor": _facade,
    "openrlhf.trainer.ray.ppo_critic": _facade,
    "openrlhf.utils.deepspeed.deepspeed": _strategy,
    "openrlhf.utils.deepspeed.deepspeed_utils": _facade,
    "openrlhf.utils.distributed_util": _collectives,
}
"""OpenRLHF's modules that assume CUDA, and what each of them hears instead."""


def install() -> None:
    """Register the seam; to be called before OpenRLHF is imported. Changes nothing where there is a CUDA device.

    Raises:
        RuntimeError: another OpenRLHF than the tested one is installed, or a hooked module is loaded already.
    """
    hooks.require_tested_version()
    hooks.register(HOOKS)
    # DeepSpeed itself may be here already (transformers imports it when a model is built); its function is looked up when it is called.
    loaded = sys.modules.get("deepspeed.comm.torch")
    if loaded is None:
        hooks.register({"deepspeed.comm.torch": _no_compiled_collectives})
    else:
        for _ in _no_compiled_collectives(loaded):
            pass
