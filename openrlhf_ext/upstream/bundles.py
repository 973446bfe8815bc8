"""Which bundles of a placement group make up one engine, once it is known which node each lies on. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


def bundles_by_node(bundle_nodes: Mapping[int, str], engines: int, tensor_parallel_size: int) -> list[int]:
    """Bundle indices in the order of the engines: engine ``i`` takes ``[i * t, (i + 1) * t)`` of them, all on one node.

    Ray's PACK may deal bundles out to nodes in any order, and a node may hold a number that ``t`` does not divide:
    what is left over there is skipped.

    Args:
        bundle_nodes: bundle index -> id of its node.

    Raises:
        ValueError: fewer than ``engines`` times ``tensor_parallel_size`` bundles lie together.
    """
    held: dict[str, list[int]] = {}
    for bundle in sorted(bundle_nodes):
        held.setdefault(bundle_nodes[bundle], []).append(bundle)
    together = [
        bundle for own in held.values() for bundle in own[: len(own) // tensor_parallel_size * tensor_parallel_size]
    ]
    fits = len(together) // tensor_parallel_size
    if fits < engines:
        raise ValueError(
            f"{engines} engines of {tensor_parallel_size} GPUs each, but only {fits} of them find all their GPUs on one "
            f"node: the bundles lie {spread(bundle_nodes)} per node. Use a --vllm.tensor_parallel_size that divides the "
            "GPUs of each node, or fewer engines"
        )
    return together[: engines * tensor_parallel_size]


def spread(bundle_nodes: Mapping[int, str]) -> str:
    """How many bundles each node holds, e.g. ``3 + 5``, in the order of their first bundle."""
    counts = Counter(bundle_nodes[bundle] for bundle in sorted(bundle_nodes))
    return " + ".join(map(str, counts.values()))
