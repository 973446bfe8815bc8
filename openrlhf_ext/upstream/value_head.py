"""The scalar head of OpenRLHF's critic: set to exactly zero before DeepSpeed takes the model, and loaded again for a search."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openrlhf_ext.upstream.adapters import Adapter


@contextlib.contextmanager
def zero_value_heads(adapter: Adapter | None = None) -> Iterator[None]:
    """Critics that upstream's worker builds inside the block begin with the value 0 everywhere, unless their checkpoint holds a head.

    With an ``adapter`` they are wrapped in it and nothing else of them is trained; upstream's own options would wrap the policy too.

    Upstream draws a normal head where critic and policy share a path and leaves it as it comes otherwise (openrlhf 0.11.2, models/model.py).
    """
    from openrlhf.trainer.ray import ppo_critic

    from openrlhf_ext.upstream.actors import substituted

    names = {"get_llm_for_sequence_regression": _zeroed(ppo_critic.get_llm_for_sequence_regression, adapter)}
    with substituted(ppo_critic, names):
        yield


def _zeroed(build: Callable[..., Any], adapter: Adapter | None) -> Callable[..., Any]:
    ours = {"init_value_head": False} | ({} if adapter is None else adapter.options())

    def built(pretrain: str, *args: Any, **options: Any) -> Any:
        model = build(pretrain, *args, **options | ours)
        if not stores_head(pretrain, model.value_head_prefix):
            sharded = (options.get("ds_config") or {}).get("zero_optimization", {}).get("stage") == 3
            zero_head(model, sharded=sharded)
        return model

    return built


def zero_head(model: Any, *, sharded: bool = False) -> None:
    """Set the value head to zero; ``sharded``: its weight is split over the ranks (ZeRO-3), all of which must call this."""
    weight = getattr(model, model.value_head_prefix).weight
    if not sharded:
        weight.data.zero_()
        return
    import deepspeed
    import torch

    with deepspeed.zero.GatheredParameters([weight], modifier_rank=0):
        if torch.distributed.get_rank() == 0:
            weight.data.zero_()


def stores_head(pretrain: str, prefix: str) -> bool:
    """Whether a model folder holds the weight of a value head; False for a name on the hub: those are language models here."""
    from safetensors import safe_open

    for file in sorted(Path(pretrain).glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            if f"{prefix}.weight" in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                return True
    return False


def load_value_model(folder: str, *, precision: str = "float32", attention: str = "sdpa") -> Any:
    """The value network that a run left in ``<run>/value``, for reading values; ValueError where the folder holds no head.

    ``model(tokens, torch.ones_like(tokens[:, 1:]), attention_mask)`` gives V of every prefix but the whole text, [B, L - 1]: append one
    more token of any kind to read the value at the last one.
    """
    from openrlhf.models import get_llm_for_sequence_regression

    prefix = "score"
    if not stores_head(folder, prefix):
        raise ValueError(f"{folder} holds no {prefix}.weight: it is no value network of a run")
    model = get_llm_for_sequence_regression(
        folder, "critic", param_dtype=precision, attn_implementation=attention, value_head_prefix=prefix
    )
    return model.eval().requires_grad_(False)
