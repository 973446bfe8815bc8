"""The plan as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openrlhf_ext.cluster import Cluster

if TYPE_CHECKING:
    from openrlhf_ext.plan_types import Plan


def render(plan: Plan, cluster: Cluster | None = None) -> str:
    """Workers, batch arithmetic, placement and notes as aligned text."""
    parts = [
        f"plan: {plan.method} on {plan.device} in {plan.precision}; books {_booked(plan)}",
        _workers(plan),
        _batch(plan),
    ]
    if cluster:
        parts.append(_placement(plan, cluster))
    if plan.device == "cpu" and any(group.state_gib for group in plan.groups):
        parts.append(_memory(plan, cluster))
    parts += [f"note: {note}" for note in plan.notes]
    return "\n".join(parts)


def _booked(plan: Plan) -> str:
    total = {kind: sum(b.get(kind, 0) for s in plan.bundle_sets.values() for b in s) for kind in ("GPU", "CPU")}
    return ", ".join(f"{amount:g} {kind}" for kind, amount in total.items() if amount)


def _memory(plan: Plan, cluster: Cluster | None) -> str:
    needed, there = plan.host_gib(), sum(node.memory_gib for node in cluster.nodes) if cluster else 0.0
    text = f"main memory, all workers at full sequence length: about {needed:.1f} GiB"
    if 0 < there < needed:
        text += f", more than the {there:.1f} GiB there are: smaller micro-batches or a shorter data.max_len"
    return text


def _workers(plan: Plan) -> str:
    head = ["worker", "ranks", "nodes x per node", "placement group", "GPU", "CPU", "threads", "GiB per rank"]
    rows = [
        [
            group.name,
            str(group.ranks),
            f"{group.nodes} x {group.per_node}",
            group.bundle_set,
            f"{group.gpu:g}",
            f"{group.cpu:g}",
            str(group.threads),
            f"{group.state_gib:.2f} + {group.activation_gib:.2f}" if group.state_gib else "-",
        ]
        for group in plan.groups
    ]
    if plan.engines:
        first = plan.engines[0]
        rows.append(
            [
                "vLLM engine",
                str(len(plan.engines)),
                f"{len(plan.engines)} x {first.tensor_parallel_size} (tensor parallel)",
                first.bundle_set,
                f"{first.worker_gpu:g}",
                f"{first.cpu:g}",
                str(first.threads),
                f"{first.state_gib:.2f} + {first.cache_gib:g} cache" if first.state_gib else "-",
            ]
        )
    return _table([head, *rows])


def _batch(plan: Plan) -> str:
    b = plan.batch
    if plan.engines:
        rows = [
            [
                "rollout",
                f"{b.prompts_per_step} prompts x {b.samples_per_prompt} samples = {b.samples_per_step} per step",
            ],
            ["log-probs", f"{b.forward_batches_per_rank} micro-batches per rank"],
        ]
    else:
        rows = []
    rows.append(
        [
            "update",
            f"{b.train_batch} samples = {b.micro_batch} per micro-batch x {b.accumulation} accumulated "
            f"x {b.data_parallel} data-parallel ranks; {b.updates_per_step} per step",
        ]
    )
    rows.append(["length", _length(plan)])
    return _table(rows)


def _length(plan: Plan) -> str:
    b = plan.batch
    if b.steps is None:
        return "not known: the data cannot be read here"
    updates = f"{b.steps} steps, {b.optimizer_steps} optimizer updates"
    if b.rows is None or b.steps_per_episode is None:
        return updates
    if plan.engines:
        return f"{updates}; {b.rows} prompts, {b.steps * b.prompts_per_step / b.rows:.2f} passes over them"
    return f"{updates}; {b.rows} rows, {b.steps_per_episode:.4g} steps per epoch, {b.episodes} epochs"


def _placement(plan: Plan, cluster: Cluster) -> str:
    placed, _ = plan.place(cluster)
    tenants: dict[str, list[str]] = {name: [] for name in plan.bundle_sets}
    for group in plan.groups:
        tenants[group.bundle_set].append(group.name)
    if plan.engines:
        tenants[plan.engines[0].bundle_set].append("engines")
    rows = []
    for node in cluster.nodes:
        held = {name: [i for s, i in placed[node.name] if s == name] for name in plan.bundle_sets}
        text = ", ".join(f"{' + '.join(tenants[name])} on {_span(held[name])}" for name in held if held[name])
        size = f"{node.gpus:g} GPUs, {node.cpus:g} cores" if node.gpus else f"{node.cpus:g} cores"
        rows.append([node.name, size, text or "idle"])
    return _table(rows)


def _span(indices: Sequence[int]) -> str:
    return f"bundle {indices[0]}" if len(indices) == 1 else f"bundles {indices[0]}-{indices[-1]}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
