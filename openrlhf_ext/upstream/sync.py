"""After a weight sync: does every engine hold exactly what the trainer holds?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openrlhf_ext.upstream.digest import Entry, differences, entry

if TYPE_CHECKING:
    from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer

TIMEOUT_S = 300.0


class WeightSyncError(RuntimeError):
    """An engine holds other weights than the trainer."""


def trainer_entries(trainer: ActorPPOTrainer) -> list[Entry]:
    """Digests of the parameters that upstream's ``broadcast_to_vllm`` sends, in its order.

    Every rank must call it: under ZeRO-3 and tensor parallelism the parameters are gathered one by one.
    """
    import deepspeed

    settings = trainer.strategy.args.ds
    model = trainer.actor.model.module

    def whole(parameter: Any) -> Any:
        if settings.tensor_parallel_size > 1:
            return deepspeed.module_inject.layers.GatherReplacedLayerParams([parameter], model, enabled=True)
        return deepspeed.zero.GatheredParameters([parameter], enabled=settings.zero_stage == 3)

    entries = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or not getattr(trainer.actor, "is_vlm", False):
            with whole(parameter):
                entries.append(entry(name, parameter.data))
    return entries


def verify_sync(trainer: ActorPPOTrainer, timeout_s: float = TIMEOUT_S) -> int:
    """Compare every engine's record with the trainer's weights; call on every rank after ``broadcast_to_vllm``.

    Returns:
        The number of tensors compared per engine worker.

    Raises:
        WeightSyncError: a tensor never arrived, arrived twice or changed, or the engine has a parameter that nothing
            was loaded into; names the tensors (on rank 0).
        ray.exceptions.GetTimeoutError: an engine did not answer within ``timeout_s`` seconds.
    """
    import ray
    import torch

    sent = trainer_entries(trainer)
    if torch.distributed.get_rank() == 0:
        answers = ray.get([engine.sync_digest.remote() for engine in trainer.vllm_engines], timeout=timeout_s)
        problems = [
            f"engine {index}, worker {worker}: {problem}"
            for index, workers in enumerate(answers)
            for worker, (received, untouched) in enumerate(workers)
            for problem in differences(sent, received, untouched)
        ]
        if problems:
            shown = "\n  ".join(problems[:20])
            raise WeightSyncError(f"{len(problems)} difference(s) after a weight sync:\n  {shown}")
    return len(sent)
