"""Broadcast over gloo between processes that share no torch.distributed world: a policy rank and the engines."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TIMEOUT_S = 300.0
"""How long joining the group and one broadcast may take before they fail."""


class BroadcastGroup:
    """Offers ``broadcast`` as vLLM's PyNcclCommunicator does, on CPU tensors.

    Rank 0 listens on ``host:port``; the constructor returns when all ``world_size`` processes have joined.
    """

    def __init__(self, host: str, port: int, rank: int, world_size: int, timeout_s: float = TIMEOUT_S) -> None:
        from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore

        timeout = timedelta(seconds=timeout_s)
        self.rank = rank
        store = TCPStore(host, port, world_size, is_master=rank == 0, timeout=timeout)
        self._group = ProcessGroupGloo(PrefixStore("openrlhf_ext/weight_sync", store), rank, world_size, timeout)

    def broadcast(self, tensor: torch.Tensor, src: int, stream: object = None) -> None:
        """Overwrite ``tensor`` with that of rank ``src`` on every other rank. ``stream`` is NCCL's and ignored."""
        from torch.distributed import BroadcastOptions

        if self.rank != src and not tensor.is_contiguous():
            raise ValueError(f"a received tensor must be contiguous, strides are {tensor.stride()}")
        options = BroadcastOptions()
        options.rootRank = src
        options.rootTensor = 0
        self._group.broadcast([tensor.contiguous()], options).wait()
