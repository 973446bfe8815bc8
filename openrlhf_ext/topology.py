"""Placement groups and actor groups exactly as the Plan names them. Imports Ray and OpenRLHF: late."""

from __future__ import annotations

from collections.abc import Sequence

import ray
from openrlhf.trainer.ray.launcher import RayActorGroup
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from openrlhf_ext.plan import Group, Plan
from openrlhf_ext.rollout.deadline import DeadlineExceeded, wait_for

_PLACED: list[PlacementGroup] = []
_ACTORS: list[ray.actor.ActorHandle] = []


def place(plan: Plan, timeout: float) -> dict[str, PlacementGroup]:
    """Create the plan's bundle sets; DeadlineExceeded names what is missing when the cluster has no room within ``timeout`` seconds."""
    groups = {name: placement_group(bundles, strategy="PACK") for name, bundles in plan.bundle_sets.items()}
    _PLACED.extend(groups.values())
    for name, group in groups.items():
        try:
            wait_for([group.ready()], f"placing {plan.bundle_sets[name]} ({name})", timeout)
        except DeadlineExceeded as error:
            free = {k: v for k, v in ray.available_resources().items() if k in ("CPU", "GPU")}
            raise DeadlineExceeded(f"{error} Free in the cluster now: {free or 'nothing'}.") from None
    return groups


class PlannedGroup(RayActorGroup):
    """Upstream's actor group whose ranks sit in the bundles that the Plan gives them and book what it says, GPUs or none."""

    def __init__(self, group: Group, actor_class: type, placement: PlacementGroup, duplicate_actors: int = 1) -> None:
        self.group, self.placement = group, placement
        super().__init__(
            group.nodes, group.per_node, ray.remote(actor_class), pg=placement, duplicate_actors=duplicate_actors
        )
        _ACTORS.extend(self._actor_handlers)

    def each(self, method_name: str, works: Sequence[object], *args: object) -> list[ray.ObjectRef]:
        """Call rank i with the i-th of ``works`` and ``args``."""
        if len(works) != len(self._actor_handlers):
            raise ValueError(f"{len(works)} pieces of work for {len(self._actor_handlers)} ranks of {self.group.name}")
        return [
            getattr(actor, method_name).remote(work, *args)
            for actor, work in zip(self._actor_handlers, works, strict=True)
        ]

    @property
    def ranks(self) -> int:
        return len(self._actor_handlers)

    def _initiate_actors(self, pg: PlacementGroup, num_gpus_per_actor: float) -> None:
        first = self._start(0, None, None)
        self._actor_handlers = [first]
        if self.group.ranks > 1:
            address, port = wait_for([first.get_master_addr_port.remote()], f"{self.group.name} rank 0", 300.0)[0]
            self._actor_handlers += [self._start(rank, address, port) for rank in range(1, self.group.ranks)]

    def _start(self, rank: int, address: str | None, port: int | None) -> ray.actor.ActorHandle:
        where = PlacementGroupSchedulingStrategy(
            placement_group=self.placement, placement_group_bundle_index=self.group.bundles[rank]
        )
        options = self.ray_actor_type.options(
            num_cpus=self.group.cpu, num_gpus=self.group.gpu, scheduling_strategy=where
        )
        return options.remote(self.group.ranks, rank, address, port)


def remember(actors: list[ray.actor.ActorHandle]) -> list[ray.actor.ActorHandle]:
    """Note actors that were started elsewhere (engines), so that they end with the job."""
    _ACTORS.extend(actors)
    return actors


def release_all() -> None:
    """End every actor and give every bundle back."""
    while _ACTORS:
        ray.kill(_ACTORS.pop(), no_restart=True)
    while _PLACED:
        remove_placement_group(_PLACED.pop())
