"""OREO's workers on DeepSpeed: two ranks, several micro-batches and ZeRO-3 make the updates of one rank in one piece.

Layouts of the same eight trajectories (one of them with two turns), two steps each, because a head of zero lets nothing through to the trunk
in the first. Adam's epsilon is 1, so that an update is nearly proportional to the gradient and a wrong scale cannot hide behind its
normalisation. Policy and value network of a rank share one process here. Cost: about 40 s on 2 idle cores.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from openrlhf_ext.data.trajectory import Trajectory
from tests.system.ranks import group_of, session

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

ANSWERS = [[2, 3], [4, 5, 6, 7, 8, 9, 2, 3], [5], [9, 9, 2], [3, 4, 5, 6, 7], [8, 2, 2, 2, 4, 4], [6, 1], [7, 7, 7, 3]]
PROMPT = [3, 4, 5]
CHUNK = 3
# name: ranks, micro-batch, ZeRO stage, level, regulariser; always 8 trajectories per step.
LAYOUTS = {
    "one rank": (1, 8, 2, "token", "exact"),
    "one rank, two micro-batches": (1, 4, 2, "token", "exact"),
    "sampled": (1, 8, 2, "step", "sampled"),
    "two ranks": (2, 4, 2, "token", "exact"),
    "two ranks, two micro-batches, sampled": (2, 2, 2, "step", "sampled"),
    "two ranks, two micro-batches, ZeRO-3": (2, 2, 3, "token", "exact"),
}


def trajectories() -> list[Trajectory]:
    """The fourth reads an observation of two tokens before its last one."""
    rows: list[Trajectory] = []
    for i, answer in enumerate(ANSWERS):
        begin, end = len(PROMPT), len(PROMPT) + len(answer)
        ranges = [(begin, end)] if i != 3 else [(begin, begin + 1), (end, end + 1)]
        tokens = PROMPT + answer + ([7] if i == 3 else [])
        rows.append(
            {
                "prompt": "",
                "label": "",
                "observation_tokens": tokens,
                "action_ranges": ranges,
                "rollout_log_probs": None,
                "reward": float(i % 2),
                "scores": None,
                "truncated": False,
                "extra_logs": {},
                "step_starts": [start for start, _ in ranges] + ([begin + 2] if i == 1 else []),
            }
        )
    return [row | {"step_starts": sorted(row["step_starts"])} for row in rows]  # type: ignore[misc]


class Rank:
    """Builds both networks like those of a run, one layout after the other, in one process per rank."""

    def __init__(self, world_size: int, rank: int, address: str | None, port: int | None) -> None:
        from openrlhf_ext.methods.oreo_workers import OreoPolicyWorker, OreoValueWorker

        self.policy = OreoPolicyWorker(world_size, rank, address, port)
        address, port = self.policy.get_master_addr_port()
        self.value = OreoValueWorker(world_size, rank, address, port)

    def address(self) -> tuple[str, int]:
        return self.policy.get_master_addr_port()

    def build(self, argv: list[str], model: str, settings: object) -> None:
        from openrlhf.utils import get_strategy

        from openrlhf_ext.upstream import cli

        args = cli.parse("ppo", argv)
        self.policy.init_model_from_pretrained(get_strategy(args), model, 10, settings)
        self.value.init_model_from_pretrained(get_strategy(args), model, 10, settings)

    def call(self, network: str, method_name: str, *args: object) -> object:
        return getattr(getattr(self, network), method_name)(*args)

    def parameters(self) -> dict:
        import deepspeed

        found = {}
        for network in (self.policy.actor.model, self.value.critic):
            for name, parameter in network.module.named_parameters():
                with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
                    found[f"{type(network.module).__name__} {name}"] = parameter.detach().clone()
        return found

    def sharded(self) -> bool:
        return all(
            hasattr(p, "ds_id") for p in (*self.policy.actor.model.parameters(), *self.value.critic.parameters())
        )


class Group:
    """One network of all ranks, as the trainer calls it."""

    def __init__(self, actors: list, network: str) -> None:
        self.actors, self.network, self.ranks = actors, network, len(actors)

    def each(self, method_name: str, works: list, *args: object) -> list:
        return [a.call.remote(self.network, method_name, w, *args) for a, w in zip(self.actors, works, strict=True)]

    def async_run_method(self, method_name: str, *args: object) -> list:
        return [actor.call.remote(self.network, method_name, *args) for actor in self.actors]


def arguments(model: str, ranks: int, micro_batch: int, stage: int) -> list[str]:
    settings: dict[str, object] = {
        "actor.model_name_or_path": model,
        "reward.remote_url": "reward.py",
        "vllm.num_engines": 0,
        "vllm.sync_backend": "gloo",
        "ds.attn_implementation": "sdpa",
        "ds.param_dtype": "float32",
        "ds.zero_stage": stage,
        "algo.advantage.estimator": "gae",
        "train.batch_size": 8,
        "train.micro_batch_size": micro_batch,
    }
    for network in ("actor", "critic"):
        settings |= {
            f"{network}.num_nodes": 1,
            f"{network}.num_gpus_per_node": ranks,
            f"{network}.adam.lr": 1e-1,
            f"{network}.adam.eps": 1,
            f"{network}.max_norm": 0,
            f"{network}.lr_scheduler": "constant",
            f"{network}.lr_warmup_ratio": 0,
        }
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


@pytest.fixture(scope="module")
def updates(toy) -> dict[str, dict]:
    """Layout -> what two steps did."""
    with session(__name__):
        return {**train_group(1, toy.model), **train_group(2, toy.model)}


def train_group(ranks: int, model: Path) -> dict[str, dict]:
    actors = group_of(Rank, ranks)
    return {name: two_steps(actors, model, *layout[1:]) for name, layout in LAYOUTS.items() if layout[0] == ranks}


def two_steps(actors: list, model: Path, micro_batch: int, stage: int, level: str, regulariser: str) -> dict:
    import ray

    from openrlhf_ext.losses.oreo import Objective
    from openrlhf_ext.losses.vocabulary import pieces_of
    from openrlhf_ext.methods.oreo_workers import PolicyWork, Settings, ValueWork
    from openrlhf_ext.offline_trainer import reference_log_probs
    from openrlhf_ext.rollout.collate import collate
    from openrlhf_ext.rollout.micro_batches import cut, deal, padded, pieces_of_rounds, undeal

    ranks = len(actors)
    settings = Settings(Objective(level, 0.3, 0.1, turn_ends=True), str(model), regulariser == "exact", CHUNK)
    argv = arguments(str(model), ranks, micro_batch, stage)
    ray.get([actor.build.remote(argv, str(model), settings) for actor in actors], timeout=600)
    policy, value = Group(actors, "policy"), Group(actors, "value")
    data = trajectories()
    rows = cut(range(8), data, micro_batch)
    batches = [collate([data[i] for i in row], pad_id=0, need_steps=True) for row in rows]
    pieces = pieces_of_rounds([pieces_of(batch.is_action, CHUNK) for batch in batches], ranks)
    known = [None] * len(rows)
    if regulariser == "sampled":
        stored = reference_log_probs(policy, data, micro_batch=3, chunk=CHUNK, pad_id=0, timeout=300)
        known = [padded([stored[i] for i in row]) for row in rows]
    first: dict = {}
    for _ in range(2):
        values = undeal(ray.get(value.each("values", deal(batches, ranks)), timeout=300))
        work = [PolicyWork(*parts) for parts in zip(batches, pieces, values, known, strict=True)]
        results = ray.get(policy.each("learn", deal(work, ranks), 8), timeout=300)
        terms = undeal([found for found, _ in results])
        work = [ValueWork(b, t.log_probs - t.ref_log_probs) for b, t in zip(batches, terms, strict=True)]
        facts = ray.get(value.each("learn", deal(work, ranks), 8), timeout=300)
        first = first or {"values": values, "terms": terms}
    norms = [results[0][1]["grad_norm"], facts[0]["grad_norm"]]
    return {
        "first": first,
        "last": terms,
        "norms": norms,
        "sharded": ray.get([actor.sharded.remote() for actor in actors], timeout=300),
        "parameters": ray.get([actor.parameters.remote() for actor in actors], timeout=300)[0],
    }


def largest_difference(one: dict, other: dict) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize(
    ("layout", "like"),
    [
        ("one rank, two micro-batches", "one rank"),
        ("two ranks", "one rank"),
        ("two ranks, two micro-batches, ZeRO-3", "one rank"),
        ("two ranks, two micro-batches, sampled", "sampled"),
    ],
)
def test_every_layout_makes_the_updates_of_one_rank(updates: dict[str, dict], layout: str, like: str) -> None:
    one, other = updates[like], updates[layout]
    assert largest_difference(one["parameters"], other["parameters"]) < 2e-6
    assert other["norms"] == pytest.approx(one["norms"], rel=1e-4)
    assert set(other["sharded"]) == {"ZeRO-3" in layout}, (
        "and its weights are spread over the ranks where they should be"
    )


def test_the_updates_are_large_enough_to_tell_layouts_apart(updates: dict[str, dict], toy) -> None:
    from safetensors.torch import load_file

    before = load_file(toy.model / "model.safetensors")
    for network in ("LlamaForCausalLM", "CriticModel"):
        after = {
            name.removeprefix(f"{network} "): value
            for name, value in updates["one rank"]["parameters"].items()
            if name.startswith(network) and name.removeprefix(f"{network} ") in before
        }
        assert len(after) == len(before)
        assert largest_difference({name: before[name] for name in after}, after) > 1e-4, network
    assert largest_difference(updates["one rank"]["parameters"], updates["sampled"]["parameters"]) > 1e-4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_at_the_start_values_are_zero_and_the_policy_is_the_reference(updates: dict[str, dict], layout: str) -> None:
    first = updates[layout]["first"]
    assert not any(values.any() for values in first["values"])
    for terms in first["terms"]:
        assert (terms.log_probs - terms.ref_log_probs).abs().max() < 1e-5
        assert terms.kl.abs().max() < 1e-5 and terms.log_probs.min() < -1
    assert max(terms.kl.max() for terms in updates[layout]["last"]) > 1e-7, "and later it is not"
