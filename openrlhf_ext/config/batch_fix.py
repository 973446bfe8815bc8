"""The nearest sizes that would work, for the problems of ``check_batch``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openrlhf_ext.config.load import Resolved


def nearest(values: Iterable[int], near: int) -> list[int]:
    """The values next to ``near`` on both sides, the closer one first; one where a side has none."""
    known = sorted(set(values))
    sides = [*[v for v in known if v <= near][-1:], *[v for v in known if v >= near][:1]]
    return sorted(set(sides), key=lambda v: (abs(v - near), v))


def divisors(total: int) -> list[int]:
    return [d for d in range(1, total + 1) if total % d == 0]


def batch_fix(resolved: Resolved, parallel: int, per_step: int | None) -> str:
    """Sizes of the update that fit.

    Args:
        parallel: data-parallel ranks.
        per_step: samples of a step, which an update must divide; None where data are a stream (sft, preferences, stored trajectories).
    """
    batch, micro = resolved.whole("train.batch_size"), resolved.whole("train.micro_batch_size")
    unit = 1 if resolved.flag("train.dynamic_batch_enable") else micro * parallel
    if per_step is None:
        below = batch // unit * unit
        return _batches([size for size in (below, below + unit) if size], batch)
    works = [size for size in divisors(per_step) if size % unit == 0]
    if works:
        return _batches(_that_fit_the_reference(resolved, works), batch)
    if per_step % parallel:
        return f"a number of ranks that divides {per_step} (rollout.batch_size x rollout.n_samples_per_prompt)"
    micro = nearest(divisors(per_step // parallel), micro)[0]
    works = [size for size in divisors(per_step) if size % (micro * parallel) == 0]
    return f"--train.micro_batch_size {micro} {_batches(nearest(works, batch)[:1], batch)}"


def reference_fix(resolved: Resolved, per_step: int, forward: int) -> str:
    """Ranks of the reference model that the sizes allow, as they are."""
    now, nodes = resolved.whole("ref.num_gpus_per_node"), resolved.whole("ref.num_nodes")
    replica = resolved.whole("ds.ring_attn_size") * resolved.whole("ds.tensor_parallel_size")
    batch, micro = resolved.whole("train.batch_size"), resolved.whole("train.micro_batch_size")
    batches = -(-per_step // forward)

    def works(per_node: int) -> bool:
        parallel, rest = divmod(nodes * per_node, replica)
        updates = resolved.flag("train.dynamic_batch_enable") or batch % (micro * max(parallel, 1)) == 0
        dealt = resolved.whole("ds.zero_stage") != 3 or batches % max(parallel, 1) == 0
        return rest == 0 and 0 < parallel <= batches and updates and dealt

    fits = nearest((n for n in range(1, now + replica * batches + 1) if works(n)), now)
    if fits:
        return f"--ref.num_gpus_per_node {' or '.join(map(str, fits))}"
    return "fewer ref.num_nodes, or a smaller train.micro_batch_size or rollout.micro_batch_size"


def _batches(sizes: list[int], near: int) -> str:
    return f"--train.batch_size {' or '.join(map(str, nearest(sizes, near)))}"


def _that_fit_the_reference(resolved: Resolved, sizes: list[int]) -> list[int]:
    """Those that the reference's ranks divide too, where there is one and any do."""
    if resolved.number("algo.kl.init_coef") <= 0 or resolved.flag("train.dynamic_batch_enable"):
        return sizes
    replica = resolved.whole("ds.ring_attn_size") * resolved.whole("ds.tensor_parallel_size")
    parallel = max(1, resolved.whole("ref.num_nodes") * resolved.whole("ref.num_gpus_per_node") // replica)
    unit = resolved.whole("train.micro_batch_size") * parallel
    return [size for size in sizes if size % unit == 0] or sizes
