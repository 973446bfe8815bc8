"""How much memory a worker needs: a rough estimate from a model's shape, good for "does it fit", not for the last GiB."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

GIB = 2**30
BYTES = {"float32": 4, "bf16": 2, "fp16": 2}
PROCESS_GIB = 0.75
"""A worker process with torch, transformers and DeepSpeed loaded, before any model (measured on CPU)."""
CUDA_CONTEXT_GIB = 0.6


@dataclass(frozen=True)
class ModelShape:
    """What memory depends on."""

    parameters: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    positions: int | None = None
    model_type: str = ""

    def kv_bytes_per_token(self, precision: str) -> int:
        """Key and value of every layer for one token."""
        return 2 * self.layers * self.kv_heads * self.head_size * BYTES[precision]


def read_shape(model_dir: Path) -> ModelShape | None:
    """Shape of a decoder saved in Hugging Face form; None where ``config.json`` lacks the usual names."""
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    try:
        hidden, layers = config["hidden_size"], config["num_hidden_layers"]
        heads, vocabulary = config["num_attention_heads"], config["vocab_size"]
    except KeyError:
        return None
    kv_heads = config.get("num_key_value_heads") or heads
    head_size = config.get("head_dim") or hidden // heads
    inner = config.get("intermediate_size") or 4 * hidden
    attention = hidden * head_size * (2 * heads + 2 * kv_heads)
    embedding = vocabulary * hidden * (1 if config.get("tie_word_embeddings") else 2)
    estimate = layers * (attention + 3 * hidden * inner + 2 * hidden) + embedding + hidden
    return ModelShape(
        parameters=_stored_parameters(model_dir) or estimate,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        vocabulary=vocabulary,
        positions=config.get("max_position_embeddings"),
        model_type=config.get("model_type", ""),
    )


def trainer_state_gib(
    shape: ModelShape, precision: str, zero_stage: int, ranks: int, *, adam_offload: bool = False
) -> float:
    """Weights, gradients and Adam state of one DeepSpeed rank, in GiB (ZeRO splits what its stage says over ``ranks``).

    ``adam_offload``: the Adam state lies in main memory and does not count.
    """
    size = BYTES[precision]
    weights = size * shape.parameters / (ranks if zero_stage >= 3 else 1)
    gradients = size * shape.parameters / (ranks if zero_stage >= 2 else 1)
    # float32 master copy and two moments; DeepSpeed keeps the copy for float32 models too (ZeRO 1 and 2)
    optimizer = 0 if adam_offload else 12 * shape.parameters / (ranks if zero_stage >= 1 else 1)
    return (weights + gradients + optimizer) / GIB


def activation_gib(shape: ModelShape, precision: str, micro_batch: int, length: int, *, training: bool) -> float:
    """Activations and logits of one micro-batch of full length, in GiB, without checkpointing."""
    tokens = micro_batch * length
    logits = tokens * shape.vocabulary * 4 * (3 if training else 2)
    layers = tokens * shape.hidden * BYTES[precision] * (18 * shape.layers if training else 8)
    return (logits + layers) / GIB


def frozen_state_gib(shape: ModelShape, precision: str, zero_stage: int, ranks: int) -> float:
    """Weights of a model that is not trained, per rank, in GiB."""
    return weights_gib(shape, precision) / (ranks if zero_stage >= 3 else 1)


def weights_gib(shape: ModelShape, precision: str) -> float:
    """The weights alone, in GiB: a model as it is saved for use."""
    return BYTES[precision] * shape.parameters / GIB


def checkpoint_gib(shape: ModelShape, precision: str) -> float:
    """One resume checkpoint on disk over all ranks: weights and Adam state, in GiB."""
    return (BYTES[precision] + 12) * shape.parameters / GIB


def _stored_parameters(model_dir: Path) -> int:
    """Elements in the safetensors files' headers; 0 where there are none."""
    total = 0
    for path in sorted(model_dir.glob("*.safetensors")):
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length < path.stat().st_size:
                raise ValueError(
                    f"{path.name} is no safetensors file, or is cut off (a download that was not finished?)"
                )
            header = json.loads(stream.read(length))
        total += sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total
