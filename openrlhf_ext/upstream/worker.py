"""The extension class that vLLM mixes into its worker: weight sync on CPU, and a record of what arrived.

vLLM imports this module in the engine's process, before the model is built.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from openrlhf_ext import upstream

upstream.install()

from openrlhf.trainer.ray.vllm_worker_wrap import WorkerWrap  # noqa: E402

from openrlhf_ext.upstream.digest import Entry, entry  # noqa: E402

if TYPE_CHECKING:
    import torch


def keep_linear_layers_unpacked() -> None:
    """Let vLLM's CPU backend multiply with the weights as they are loaded.

    It would pack them into oneDNN's layout and empty them (``vllm/model_executor/layers/utils.py:434``, 0.29.0): later
    weights would then have nowhere to go, and its own way to reload loses tied embeddings without an error.
    """
    from torch.nn.functional import linear
    from vllm.model_executor.layers import utils

    pack = utils.dispatch_cpu_unquantized_gemm

    def dispatch_cpu_unquantized_gemm(layer: torch.nn.Module, remove_weight: bool) -> None:
        if layer.weight.ndim == 2:
            layer.cpu_linear = linear
        else:  # convolutions are packed in place for a kernel of their own
            pack(layer, remove_weight)

    utils.dispatch_cpu_unquantized_gemm = dispatch_cpu_unquantized_gemm


def _on_cpu() -> bool:
    from vllm.platforms import current_platform

    return current_platform.is_cpu()


if _on_cpu():
    keep_linear_layers_unpacked()


class SyncWorker(WorkerWrap):
    """OpenRLHF's worker extension, for CPU too, that can say what it received since it was last asked."""

    # Made at the first update: vLLM mixes this class into its worker without calling a constructor of ours.
    _arrived: list[Entry]
    _reached: set[str]

    def update_weight(self, name: str, dtype: torch.dtype, shape: Iterable[int], empty_cache: bool = False) -> None:
        """Receive one parameter from policy rank 0 and load it."""
        self._record_loads()
        if not _on_cpu():
            super().update_weight(name, dtype, shape, empty_cache)
            return
        import torch

        if dtype != self.model_config.dtype:
            raise ValueError(f"{name} is sent as {dtype}, the engine computes in {self.model_config.dtype}")
        weight = torch.empty(tuple(shape), dtype=dtype)
        self._model_update_group.broadcast(weight, src=0)
        self.model_runner.model.load_weights(weights=[(name, weight)])

    def update_weight_cuda_ipc(self, *args: Any, **kwargs: Any) -> None:
        """As upstream's, recorded."""
        self._record_loads()
        super().update_weight_cuda_ipc(*args, **kwargs)

    def sync_digest(self) -> tuple[list[Entry], list[str]]:
        """(what arrived since the last call, parameters of this worker's model that none of it reached); forgets both."""
        if not hasattr(self, "_arrived"):
            return [], []
        arrived, reached = self._arrived, self._reached
        self._arrived, self._reached = [], set()
        untouched = sorted(name for name, _ in self.model_runner.model.named_parameters() if name not in reached)
        return arrived, untouched

    def _record_loads(self) -> None:
        if hasattr(self, "_arrived"):
            return
        self._arrived, self._reached = [], set()
        model = self.model_runner.model
        load = model.load_weights

        def load_weights(weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
            weights = list(weights)
            self._arrived += [entry(name, tensor) for name, tensor in weights]
            reached = load(weights=weights)
            self._reached |= reached
            return reached

        model.load_weights = load_weights
