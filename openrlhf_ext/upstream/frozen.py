"""A frozen copy of a model inside a worker that trains another one."""

from __future__ import annotations

from typing import Any

from openrlhf_ext.upstream.actors import undecorated


def frozen_actor(strategy: Any, pretrain: str) -> Any:
    """OpenRLHF's reference model (an ``Actor`` around a DeepSpeed engine), loaded in a process whose group is up already."""
    from openrlhf.trainer.ray.launcher import ReferenceModelActor

    class Frozen(undecorated(ReferenceModelActor)):  # type: ignore[misc]
        def __init__(self) -> None:
            """No rendezvous: the trained model of this process had its own."""

        def _setup_distributed(self, strategy: Any) -> None:
            self.strategy = strategy

    frozen = Frozen()
    frozen.init_model_from_pretrained(strategy, pretrain)
    return frozen.model
