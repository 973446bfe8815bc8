"""Reopen Ray-decorated classes, and run an upstream program on the ranks of a group."""

from __future__ import annotations


def undecorated(actor_class: type) -> type:
    """The class behind ``@ray.remote``; it can be subclassed and decorated again.

    The only place that knows where Ray (2.55) keeps it. Raises TypeError for a class that Ray did not decorate.
    """
    metadata = getattr(actor_class, "__ray_metadata__", None)
    if metadata is None:
        raise TypeError(f"{actor_class!r} is not a class decorated with @ray.remote")
    return metadata.modified_class.__ray_actor_class__
