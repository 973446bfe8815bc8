"""Who sits where: placement groups, workers, engines, memory and batch arithmetic, decided before Ray starts.

Pure: no Ray, no torch. ``launch`` creates exactly the bundle sets, groups and engines named here.
"""

from __future__ import annotations

import math
from typing import Protocol

from openrlhf_ext.cluster import Cluster, Node, usable_cores
from openrlhf_ext.memory import GIB, ModelShape, activation_gib, frozen_state_gib, trainer_state_gib
from openrlhf_ext.plan_types import Batch, Engine, Group, Plan

__all__ = ["Batch", "Cluster", "Engine", "Group", "Node", "Plan", "Settings", "make_plan"]

CPU_SHARE = 0.1
"""CPUs that Ray books per worker on a machine without GPUs: bookkeeping only, so that two cores can host many workers."""
GPU_SHARE = 0.2
"""Part of a GPU that each worker books where several share it (OpenRLHF's own number)."""


_REWARD_GROUPS: dict[str, tuple[str, ...]] = {
    "label": ("label_reward",),
    "rationale": ("rationale_reward",),
    "mixed": ("label_reward", "rationale_reward"),
}
"""Arm of rllr -> the groups of its reward models."""


class Settings(Protocol):
    """What a plan reads of a resolved configuration."""

    @property
    def method(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def has_critic(self) -> bool: ...

    def get(self, key: str) -> object: ...

    def own_key(self, leaf: str) -> str: ...

    def whole(self, key: str) -> int: ...

    def whole_or_none(self, key: str) -> int | None: ...

    def number(self, key: str) -> float: ...

    def flag(self, key: str) -> bool: ...

    def text(self, key: str) -> str: ...


def make_plan(
    resolved: Settings,
    device: str,
    *,
    rows: int | None = None,
    model: ModelShape | None = None,
    cores: int | None = None,
) -> Plan:
    """Lay out a resolved request.

    Args:
        device: "cpu" or "cuda".
        rows: rows of the training data (``data.max_samples`` not yet applied).
        model: shape of the policy, for the memory estimates.
        cores: CPU cores of one machine, for the thread counts; None = this machine's.
    """
    cores = cores or usable_cores()
    layout = _rollout_layout if resolved.get("vllm.num_engines") is not None else _program_layout
    groups, engines, bundle_sets = layout(resolved, device, cores, model)
    batch_of = _rollout_batch if engines else _offline_batch if layout is _rollout_layout else _program_batch
    batch = batch_of(resolved, rows)
    notes = tuple(_notes(resolved, device, engines, batch, model))
    return Plan(resolved.method, device, resolved.precision, bundle_sets, groups, engines, batch, notes)


def _rollout_layout(
    resolved: Settings, device: str, cores: int, model: ModelShape | None
) -> tuple[tuple[Group, ...], tuple[Engine, ...], dict[str, list[dict[str, float]]]]:
    """Policy, critic (for GAE), reference (where KL is on) and engines: everything shared, policy with reference, or each on its own.

    A method on stored trajectories has no engines, and its reference is part of the policy's workers.
    """
    share_all = resolved.flag("train.colocate_all")
    share_ref = share_all or resolved.flag("train.colocate_actor_ref")
    sizes = {"actor": _size(resolved, "actor")}
    if resolved.has_critic:
        sizes["critic"] = _size(resolved, "critic")
    if resolved.number("algo.kl.init_coef") > 0:
        sizes["ref"] = _size(resolved, "ref")
    scorers = _REWARD_GROUPS.get(resolved.text("rllr.reward"), ())
    sizes |= {name: _size(resolved, "reward") for name in scorers}
    shared = {"actor", "ref"} if share_ref else set()
    home = {name: "train" if share_all or name in shared else name for name in sizes}
    if resolved.flag("train.colocate_critic_reward") and not share_all:
        home |= dict.fromkeys(scorers, "critic")

    width, count = resolved.whole("vllm.tensor_parallel_size"), resolved.whole("vllm.num_engines")
    engine_home = "train" if share_all else "engines"
    slots: dict[str, int] = {}
    for name, (nodes, per_node) in sizes.items():
        slots[home[name]] = max(slots.get(home[name], 0), nodes * per_node)
    slots[engine_home] = max(slots.get(engine_home, 0), width * count)
    tenants = {s: sum(home[n] == s for n in sizes) + (s == engine_home and count > 0) for s in slots}

    groups = tuple(
        _group(resolved, name, size, home[name], _booking(device, tenants[home[name]]), cores, model)
        for name, size in sizes.items()
    )
    gpu, cpu = _booking(device, tenants[engine_home])
    engines = tuple(
        Engine(
            index=i,
            bundle_set=engine_home,
            bundles=tuple(range(i * width, (i + 1) * width)),
            tensor_parallel_size=width,
            gpu=gpu if width == 1 else 0.0,
            cpu=cpu if width == 1 else 0.0,
            worker_gpu=gpu,
            threads=resolved.whole("run.threads") or max(1, cores // max(count, 1)),
            state_gib=frozen_state_gib(model, resolved.precision, 0, 1) / width if model else 0.0,
            cache_gib=float(resolved.whole("run.kv_cache_gib")) if device == "cpu" else 0.0,
        )
        for i in range(count)
    )
    return groups, engines, {name: [_bundle(device, tenants[name])] * n for name, n in slots.items() if n}


def _program_layout(
    resolved: Settings, device: str, cores: int, model: ModelShape | None
) -> tuple[tuple[Group, ...], tuple[Engine, ...], dict[str, list[dict[str, float]]]]:
    """One group of DeepSpeed ranks that run an OpenRLHF program."""
    size = (resolved.whole("run.nodes"), resolved.whole("run.ranks_per_node"))
    group = _group(resolved, resolved.method, size, "train", _booking(device, 1), cores, model)
    return (group,), (), {"train": [_bundle(device, 1)] * group.ranks}


def _group(
    resolved: Settings,
    name: str,
    size: tuple[int, int],
    home: str,
    booking: tuple[float, float],
    cores: int,
    model: ModelShape | None,
) -> Group:
    nodes, per_node = size
    ranks, stage, precision = nodes * per_node, resolved.whole("ds.zero_stage"), resolved.precision
    trains = name != "ref" and not name.endswith("_reward")
    micro = resolved.whole("train.micro_batch_size" if trains else "rollout.micro_batch_size")
    length = resolved.whole("data.max_len")
    state = activations = 0.0
    if model:
        if trains:
            offload = resolved.flag("ds.adam_offload")
            state = trainer_state_gib(model, precision, stage, max(ranks, 1), adam_offload=offload)
            exact = name == "actor" and resolved.get("oreo.regulariser") == "exact"
            if exact or (resolved.get("ref.offload") is False and _pairs_with_reference(resolved)):
                state += frozen_state_gib(
                    model, precision, stage, max(ranks, 1)
                )  # the reference sits beside the policy
        else:
            state = frozen_state_gib(model, precision, stage, max(ranks, 1))
        sequences = 2 * micro if resolved.get("data.chosen_key") is not None else micro  # both sides of a pair
        activations = activation_gib(model, precision, sequences, length, training=trains)
    return Group(
        name=name,
        ranks=ranks,
        nodes=nodes,
        per_node=per_node,
        bundle_set=home,
        bundles=tuple(range(ranks)),
        gpu=booking[0],
        cpu=booking[1],
        threads=resolved.whole("run.threads") or max(1, cores // max(per_node, 1)),
        state_gib=state,
        activation_gib=activations,
    )


def _pairs_with_reference(resolved: Settings) -> bool:
    """Does a program on pairs keep a reference model in memory?"""
    return resolved.get("data.chosen_key") is not None and resolved.get("preference.reference") == "model"


def _booking(device: str, tenants: int) -> tuple[float, float]:
    """(GPUs, CPUs) that one actor books in a bundle it shares with ``tenants - 1`` others."""
    if device == "cpu":
        return 0.0, CPU_SHARE
    share = 1.0 if tenants == 1 else min(GPU_SHARE, math.floor(100 / tenants) / 100)
    return share, share


def _bundle(device: str, tenants: int) -> dict[str, float]:
    return {"CPU": round(CPU_SHARE * tenants, 4)} if device == "cpu" else {"GPU": 1.0, "CPU": 1.0}


def _size(resolved: Settings, name: str) -> tuple[int, int]:
    return resolved.whole(f"{name}.num_nodes"), resolved.whole(f"{name}.num_gpus_per_node")


def _rollout_batch(resolved: Settings, rows: int | None) -> Batch:
    nodes, per_node = _size(resolved, "actor")
    parallel = max(1, nodes * per_node // _ranks_per_replica(resolved))
    prompts, samples = resolved.whole("rollout.batch_size"), resolved.whole("rollout.n_samples_per_prompt")
    train_batch, micro = resolved.whole("train.batch_size"), resolved.whole("train.micro_batch_size")
    per_step, episodes = prompts * samples, resolved.whole("train.num_episodes")
    updates = per_step // train_batch * resolved.whole("train.max_epochs")
    rows = _limit(rows, resolved.whole("data.max_samples"))
    steps = resolved.whole_or_none(resolved.own_key("max_steps"))
    steps = steps or (None if rows is None else rows * episodes // prompts)
    total = None if steps is None else steps * updates
    return Batch(
        rows=rows,
        prompts_per_step=prompts,
        samples_per_prompt=samples,
        samples_per_step=per_step,
        train_batch=train_batch,
        micro_batch=micro,
        data_parallel=parallel,
        accumulation=train_batch // (micro * parallel),
        updates_per_step=updates,
        forward_batches_per_rank=math.ceil(per_step / resolved.whole("rollout.micro_batch_size") / parallel),
        episodes=episodes,
        steps_per_episode=None if rows is None else rows / prompts,
        steps=steps,
        optimizer_steps=total,
        warmup_steps=_warmup(total, resolved.number("actor.lr_warmup_ratio"), resolved.text("actor.lr_scheduler")),
    )


def _offline_batch(resolved: Settings, rows: int | None) -> Batch:
    """One step = one update of both networks on ``train.batch_size`` trajectories; passes over them join seamlessly."""
    nodes, per_node = _size(resolved, "actor")
    train_batch, micro = resolved.whole("train.batch_size"), resolved.whole("train.micro_batch_size")
    epochs, parallel = resolved.whole("train.max_epochs"), nodes * per_node
    rows = _limit(rows, resolved.whole("data.max_samples"))
    steps = resolved.whole_or_none(resolved.own_key("max_steps"))
    steps = steps or (None if rows is None else rows * epochs // train_batch)
    return Batch(
        rows=rows,
        prompts_per_step=train_batch,
        samples_per_prompt=1,
        samples_per_step=train_batch,
        train_batch=train_batch,
        micro_batch=micro,
        data_parallel=parallel,
        accumulation=train_batch // (micro * parallel),
        updates_per_step=1,
        forward_batches_per_rank=0,
        episodes=epochs,
        steps_per_episode=None if rows is None else rows / train_batch,
        steps=steps,
        optimizer_steps=steps,
        warmup_steps=_warmup(steps, resolved.number("actor.lr_warmup_ratio"), resolved.text("actor.lr_scheduler")),
    )


def _program_batch(resolved: Settings, rows: int | None) -> Batch:
    ranks = resolved.whole("run.nodes") * resolved.whole("run.ranks_per_node")
    parallel = max(1, ranks // _ranks_per_replica(resolved))
    train_batch, micro = resolved.whole("train.batch_size"), resolved.whole("train.micro_batch_size")
    accumulation, epochs = train_batch // (micro * parallel), resolved.whole("train.max_epochs")
    rows = _limit(rows, resolved.whole("data.max_samples"))
    steps = per_epoch = None
    if rows is not None:
        # OpenRLHF's sampler gives every rank the same number of rows, its loader drops the incomplete micro-batch,
        # and an incomplete accumulation window runs on into the next epoch.
        per_epoch = rows // parallel // micro
        steps = per_epoch * epochs // max(accumulation, 1)
        per_epoch = per_epoch // max(accumulation, 1)
        if resolved.get("data.chosen_key") is not None:  # with preferences an epoch ends with an update
            per_epoch = rows // train_batch
            steps = per_epoch * epochs
    return Batch(
        rows=rows,
        prompts_per_step=train_batch,
        samples_per_prompt=1,
        samples_per_step=train_batch,
        train_batch=train_batch,
        micro_batch=micro,
        data_parallel=parallel,
        accumulation=accumulation,
        updates_per_step=1,
        forward_batches_per_rank=0,
        episodes=epochs,
        steps_per_episode=per_epoch,
        steps=steps,
        optimizer_steps=steps,
        warmup_steps=_warmup(steps, resolved.number("lr_warmup_ratio"), resolved.text("lr_scheduler")),
    )


def _notes(
    resolved: Settings, device: str, engines: tuple[Engine, ...], batch: Batch, model: ModelShape | None
) -> list[str]:
    notes = []
    if batch.warmup_steps:
        notes.append(f"learning-rate warm-up over {batch.warmup_steps} updates: the first update has rate 0")
    if device == "cpu" and engines and model:
        sequences = math.ceil(batch.samples_per_step / len(engines))
        wave = sequences * resolved.whole("data.max_len") * model.kv_bytes_per_token(resolved.precision) / GIB
        if wave > engines[0].cache_gib:
            notes.append(
                f"{sequences} sequences per engine may need {wave:.1f} GiB of cache, run.kv_cache_gib is "
                f"{engines[0].cache_gib:g}: vLLM will generate them in several waves"
            )
    return notes


def _ranks_per_replica(resolved: Settings) -> int:
    return resolved.whole("ds.ring_attn_size") * resolved.whole("ds.tensor_parallel_size")


def _warmup(total: int | None, ratio: float, scheduler: str) -> int | None:
    if total is None:
        return None
    return 0 if scheduler == "constant" else math.ceil(total * ratio)


def _limit(value: int | None, limit: int | None) -> int | None:
    if value is None or limit is None:
        return value
    return min(value, limit)
