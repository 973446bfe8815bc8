"""LoRA on a value network: how it is asked for, and the network written whole, so that whoever loads it needs no adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_OUTER, _INNER = "base_model.model.", ".base_layer."
_DOWN, _UP = ".lora_A.default.weight", ".lora_B.default.weight"
"""How peft names the wrapped model, a wrapped layer, and A and B of its adapter."""


@dataclass(frozen=True)
class Adapter:
    """Low-rank updates W + alpha / rank B A of every linear layer (Hu et al. 2021, arXiv:2106.09685); the value head is one of them."""

    rank: int
    alpha: int

    def options(self) -> dict[str, object]:
        """As OpenRLHF's model builder takes them. B begins at zero, so the network begins as its base."""
        return {
            "lora_rank": self.rank,
            "lora_alpha": self.alpha,
            "target_modules": "all-linear",
            "lora_dropout": 0.0,
        }


def merged_state(state: Mapping[str, torch.Tensor], adapter: Adapter) -> dict[str, torch.Tensor]:
    """The base model's own weights with the adapter added, each of its own type, from the state of the peft model around it.

    Raises ValueError where a layer has one half of an adapter, or none has one.
    """
    down, up, merged = _halves(state, _DOWN), _halves(state, _UP), {}
    if not down or down.keys() != up.keys():
        apart = sorted(down.keys() ^ up.keys())[:3]
        raise ValueError(f"{len(down)} and {len(up)} halves of adapters do not make pairs; apart: {apart}")
    for key, tensor in state.items():
        if key.endswith((_DOWN, _UP)):
            continue
        name = key.removeprefix(_OUTER).replace(_INNER, ".")
        layer = name.removesuffix(".weight")
        if layer in down and name.endswith(".weight"):
            change = up[layer].float() @ down[layer].float()
            tensor = (tensor.float() + adapter.alpha / adapter.rank * change).to(tensor.dtype)
        merged[name] = tensor.detach().cpu().contiguous()
    return merged


def _halves(state: Mapping[str, torch.Tensor], ending: str) -> dict[str, torch.Tensor]:
    """Layer -> A or B."""
    return {
        key.removeprefix(_OUTER).removesuffix(ending): tensor for key, tensor in state.items() if key.endswith(ending)
    }


def save_merged(strategy: Any, engine: Any, tokenizer: Any, directory: str, adapter: Adapter) -> None:
    """Write an adapted value network as a Hugging Face model (every rank calls it; rank 0 writes). It goes on training as it was."""
    from openrlhf.utils.distributed_util import torch_dist_barrier_and_cuda_sync

    sharded = strategy.args.ds.zero_stage > 2
    state = engine._consolidated_16bit_state_dict() if sharded else engine.module.state_dict()
    if strategy.is_rank_0():
        write_merged(engine.module, state, tokenizer, directory, adapter)
    torch_dist_barrier_and_cuda_sync()


def write_merged(
    model: Any, state: Mapping[str, torch.Tensor], tokenizer: Any, directory: str, adapter: Adapter
) -> None:
    """Config, merged weights and tokenizer of a peft model's base."""
    from safetensors.torch import save_file

    Path(directory).mkdir(parents=True, exist_ok=True)
    save_file(merged_state(state, adapter), str(Path(directory) / "model.safetensors"), metadata={"format": "pt"})
    model.get_base_model().config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
