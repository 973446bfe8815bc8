"""What a plan consists of: groups of ranks, engines, the batch arithmetic; and whether it fits a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from openrlhf_ext.cluster import Cluster
from openrlhf_ext.memory import CUDA_CONTEXT_GIB, PROCESS_GIB


@dataclass(frozen=True)
class Group:
    """Ranks of one model; rank ``i`` is an actor in bundle ``bundles[i]`` of ``bundle_set``."""

    name: str
    ranks: int
    nodes: int
    per_node: int
    bundle_set: str
    bundles: tuple[int, ...]
    gpu: float
    """GPUs that one actor books."""
    cpu: float
    threads: int
    """OMP threads of one actor."""
    state_gib: float = 0.0
    """Estimate per rank: weights, gradients, optimizer. 0 = model not known."""
    activation_gib: float = 0.0
    """Estimate per rank: one micro-batch at full length."""


@dataclass(frozen=True)
class Engine:
    """One vLLM engine.

    With ``tensor_parallel_size`` 1 the actor itself books ``gpu`` in ``bundles[0]``. Above 1 it books nothing and its
    vLLM workers book ``worker_gpu`` in each of ``tensor_parallel_size`` bundles, which must lie on one node. Ray decides
    that only when it places the set, so ``bundles`` says how many, and ``upstream.bundles.bundles_by_node`` which.
    """

    index: int
    bundle_set: str
    bundles: tuple[int, ...]
    tensor_parallel_size: int
    gpu: float
    cpu: float
    worker_gpu: float
    threads: int
    state_gib: float = 0.0
    cache_gib: float = 0.0
    """Room for keys and values (CPU only; on a GPU it follows from ``vllm.gpu_memory_utilization``)."""


@dataclass(frozen=True)
class Batch:
    """The arithmetic of a run. One step = one rollout batch (sft: one optimizer update)."""

    rows: int | None
    """Rows of the data file, ``data.max_samples`` applied; None = not known, then all totals are None."""
    prompts_per_step: int
    samples_per_prompt: int
    samples_per_step: int
    train_batch: int
    micro_batch: int
    data_parallel: int
    accumulation: int
    """Micro-batches per rank and optimizer update."""
    updates_per_step: int
    forward_batches_per_rank: int
    """Micro-batches per rank of the log-prob pass (0 for sft)."""
    episodes: int
    steps_per_episode: float | None
    """Rollouts: prompts flow on from one episode into the next, so this need not be whole."""
    steps: int | None
    optimizer_steps: int | None
    """Length of the learning-rate schedule."""
    warmup_steps: int | None

    @property
    def prompts_total(self) -> int | None:
        """Prompts that the whole run answers, each counted as often as it comes."""
        return None if self.steps is None else self.steps * self.prompts_per_step


@dataclass(frozen=True)
class Plan:
    """The topology of one run; ``to_json`` is what ``plan.json`` holds."""

    method: str
    device: str
    precision: str
    bundle_sets: dict[str, list[dict[str, float]]]
    """Placement groups by name; each is created with Ray's PACK strategy."""
    groups: tuple[Group, ...]
    engines: tuple[Engine, ...]
    batch: Batch
    notes: tuple[str, ...] = ()

    def group(self, name: str) -> Group | None:
        """The group called ``name``, if the run has it."""
        return next((group for group in self.groups if group.name == name), None)

    def to_json(self) -> dict:
        """Plain data."""
        return asdict(self)

    def render(self, cluster: Cluster | None = None) -> str:
        """A readable table; with a cluster also which node holds what."""
        from openrlhf_ext.plan_text import render

        return render(self, cluster)

    def place(self, cluster: Cluster) -> tuple[dict[str, list[tuple[str, int]]], list[str]]:
        """Put every bundle on a node as PACK would: a whole set on one node where that fits, else filled in order.

        Returns:
            (node name -> its ``(bundle set, index)``, names of the sets that do not fit).
        """
        free = {node.name: {"CPU": node.cpus, "GPU": node.gpus} for node in cluster.nodes}
        placed: dict[str, list[tuple[str, int]]] = {node.name: [] for node in cluster.nodes}
        homeless = []
        for name, bundles in self.bundle_sets.items():
            whole = {kind: sum(b.get(kind, 0) for b in bundles) for kind in ("CPU", "GPU")}
            home = next((n for n, room in free.items() if _fits(whole, room)), None)
            for index, bundle in enumerate(bundles):
                node = home or next((n for n, room in free.items() if _fits(bundle, room)), None)
                if node is None:
                    homeless.append(name)
                    break
                placed[node].append((name, index))
                for kind, amount in bundle.items():
                    free[node][kind] -= amount
        return placed, homeless

    def problems(self, cluster: Cluster) -> list[tuple[str, str, str]]:
        """Why this plan cannot run on ``cluster``: (where, what, fix) each."""
        needed = {k: sum(b.get(k, 0) for s in self.bundle_sets.values() for b in s) for k in ("GPU", "CPU")}
        found = []
        if needed["GPU"] > cluster.gpus:
            sets = ", ".join(f"{name} {len(bundles)}" for name, bundles in self.bundle_sets.items())
            what = f"{needed['GPU']:g} GPUs are asked for ({sets}), the cluster has {cluster.gpus:g}"
            found.append(("plan", what, _fewer_gpus(self)))
        elif needed["CPU"] > cluster.cpus + 1e-9:
            what = f"{needed['CPU']:g} CPUs are asked for, the cluster has {cluster.cpus:g}"
            found.append(("plan", what, "use fewer ranks or engines, or a larger machine"))
        elif homeless := self.place(cluster)[1]:
            what = f"{', '.join(homeless)}: no node has room for the next bundle, though the sum fits"
            found.append(("plan", what, "each bundle needs a GPU and a CPU core on one node"))
        if self.device == "cuda":
            found += self._node_problems([node.gpus for node in cluster.nodes])
        return found + self._memory_problems(cluster)

    def _node_problems(self, gpus: Sequence[float]) -> list[tuple[str, str, str]]:
        """``gpus``: how many each node has."""
        found, gpus_per_node = [], max(gpus, default=0)
        for group in self.groups:
            if 0 < gpus_per_node < group.per_node:
                key = _ranks_key(self.method, group.name)
                what = f"{group.per_node} ranks per node, but no node has more than {gpus_per_node:g} GPUs"
                found.append((key, what, f"--{key} {gpus_per_node:g} and more nodes"))
        tensor_parallel = max((engine.tensor_parallel_size for engine in self.engines), default=1)
        if 0 < gpus_per_node < tensor_parallel:
            what = f"an engine spans {tensor_parallel} GPUs, but no node has more than {gpus_per_node:g}"
            found.append(("vllm.tensor_parallel_size", what, f"--vllm.tensor_parallel_size {gpus_per_node:g} or less"))
        elif tensor_parallel > 1 and 0 < (whole := sum(int(n) // tensor_parallel for n in gpus)) < len(self.engines):
            what = (
                f"{len(self.engines)} engines of {tensor_parallel} GPUs, but the nodes have room for {whole} whole ones"
            )
            fix = "a --vllm.tensor_parallel_size that divides the GPUs of a node, or fewer engines"
            found.append(("vllm.tensor_parallel_size", what, fix))
        return found

    def _memory_problems(self, cluster: Cluster) -> list[tuple[str, str, str]]:
        """Only what cannot be doubted: the states alone exceed the memory."""
        if self.device == "cpu":
            memory = sum(node.memory_gib for node in cluster.nodes)
            needed = self.host_gib(with_activations=False)
            if memory and needed > memory:
                what = f"weights, optimizer and caches alone need about {needed:.1f} GiB, the machine has {memory:.1f}"
                return [("memory", what, "a smaller model, fewer ranks or engines, or a smaller run.kv_cache_gib")]
            return []
        memory = min((n.gpu_memory_gib for n in cluster.nodes if n.gpu_memory_gib), default=0.0)
        found = []
        for home in self.bundle_sets:
            tenants = [group for group in self.groups if group.bundle_set == home and group.state_gib]
            needed = sum(group.state_gib + CUDA_CONTEXT_GIB for group in tenants)
            if memory and needed > memory:
                names = " and ".join(group.name for group in tenants)
                what = f"{names}: weights, gradients and optimizer need about {needed:.1f} GiB per rank of {memory:g}"
                found.append(("memory", what, "more ranks, --ds.zero_stage 3, or --ds.adam_offload"))
        return found

    def host_gib(self, *, with_activations: bool = True) -> float:
        """Main memory of all workers and the driver on CPU, in GiB."""
        workers = sum(g.ranks * (g.state_gib + (g.activation_gib if with_activations else 0.0)) for g in self.groups)
        caches = sum(engine.state_gib + engine.cache_gib for engine in self.engines)
        processes = 2 + sum(group.ranks for group in self.groups) + len(self.engines)  # and the driver and Ray itself
        return workers + caches + PROCESS_GIB * processes


def _fits(wanted: Mapping[str, float], room: Mapping[str, float]) -> bool:
    return all(amount <= room[kind] + 1e-9 for kind, amount in wanted.items())


def _ranks_key(method: str, group: str) -> str:
    return "run.ranks_per_node" if group == method else f"{group}.num_gpus_per_node"


def _fewer_gpus(plan: Plan) -> str:
    if plan.engines and len(plan.bundle_sets) > 1:
        return "use fewer ranks or engines, or share GPUs with --train.colocate_actor_ref or --train.colocate_all"
    return "use fewer ranks or engines, or --run.device cpu"
