"""The Plan: who sits where, and what the batch sizes come to, by literal numbers."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrlhf_ext.cluster import Cluster, Node
from openrlhf_ext.config.load import Resolved, load
from openrlhf_ext.memory import GIB, ModelShape, activation_gib, frozen_state_gib, read_shape, trainer_state_gib
from openrlhf_ext.plan import make_plan

QWEN = ModelShape(494_000_000, 24, 896, 14, 2, 64, 151_936, 32_768)
TWO_CORES = Cluster((Node("laptop", cpus=2, memory_gib=24.0),))
GPU, CPU = {"GPU": 1.0, "CPU": 1.0}, {"CPU": 0.1}


def report(device: str = "cuda", **changes: object) -> Resolved:
    settings_ = {"task.name": "game24", "grpo.preset": "report"} | {k.replace("__", "."): v for k, v in changes.items()}
    return load("grpo", None, [(k, str(v)) for k, v in settings_.items()], local_device=device)


def reverse(device: str = "cuda", **changes: object) -> Resolved:
    settings_ = {"task.name": "gsm8k", "rollout.batch_size": 32, "train.batch_size": 32}
    settings_ |= {k.replace("__", "."): v for k, v in changes.items()}
    return load("reverse-curriculum", None, [(k, str(v)) for k, v in settings_.items()], local_device=device)


def shares(plan) -> dict[str, tuple]:
    return {g.name: (g.ranks, g.bundle_set, g.bundles, g.gpu, g.cpu) for g in plan.groups}


def test_two_nodes_of_eight_gpus():
    plan = make_plan(
        report(actor__num_gpus_per_node=8, vllm__num_engines=8, train__colocate_actor_ref="true"), "cuda", rows=1262
    )
    assert plan.bundle_sets == {"train": [GPU] * 8, "engines": [GPU] * 8}
    eight = tuple(range(8))
    assert shares(plan) == {"actor": (8, "train", eight, 0.2, 0.2), "ref": (8, "train", eight, 0.2, 0.2)}
    assert [(e.bundle_set, e.bundles, e.gpu) for e in plan.engines] == [("engines", (i,), 1.0) for i in range(8)]
    batch = plan.batch
    assert (batch.samples_per_step, batch.data_parallel, batch.accumulation) == (96, 8, 3)
    assert (batch.updates_per_step, batch.forward_batches_per_rank) == (1, 3)
    assert (batch.steps, batch.optimizer_steps) == (50, 50)
    assert plan.problems(Cluster.of("2x8")) == []
    placed, homeless = plan.place(Cluster.of("2x8"))
    assert homeless == []
    assert placed == {
        "node 0": [("train", i) for i in range(8)],
        "node 1": [("engines", i) for i in range(8)],
    }


def test_each_on_its_own_gpu():
    plan = make_plan(report(ref__num_gpus_per_node=1, vllm__num_engines=1), "cuda")
    assert plan.bundle_sets == {"actor": [GPU], "ref": [GPU], "engines": [GPU]}
    assert shares(plan) == {"actor": (1, "actor", (0,), 1.0, 1.0), "ref": (1, "ref", (0,), 1.0, 1.0)}


def test_one_gpu_for_everything():
    plan = make_plan(report(train__colocate_all="true"), "cuda")
    assert plan.bundle_sets == {"train": [GPU]}
    assert {g.gpu for g in plan.groups} | {e.gpu for e in plan.engines} == {0.2}
    assert plan.problems(Cluster.of("1x1")) == []
    assert plan.batch.accumulation == 24


def test_engines_over_several_gpus():
    plan = make_plan(report(vllm__num_engines=2, vllm__tensor_parallel_size=2), "cuda")
    assert plan.bundle_sets["engines"] == [GPU] * 4
    assert [(e.bundles, e.gpu, e.worker_gpu) for e in plan.engines] == [((0, 1), 0.0, 1.0), ((2, 3), 0.0, 1.0)]


def test_no_kl_no_reference():
    plan = make_plan(report(algo__kl__init_coef=0), "cuda")
    assert plan.group("ref") is None
    assert set(plan.bundle_sets) == {"actor", "engines"}


def test_a_critic_has_gpus_of_its_own():
    plan = make_plan(reverse(), "cuda")
    assert plan.bundle_sets == {"actor": [GPU], "critic": [GPU], "ref": [GPU], "engines": [GPU]}
    alone = {name: (1, name, (0,), 1.0, 1.0) for name in ("actor", "critic", "ref")}
    assert shares(plan) == alone
    assert plan.problems(Cluster.of("1x4")) == []
    assert ["4 GPUs are asked for" in what for _, what, _ in plan.problems(Cluster.of("1x3"))] == [True]
    assert make_plan(report(), "cuda").group("critic") is None


def test_a_critic_is_as_large_as_the_policy_unless_told():
    plan = make_plan(reverse(actor__num_gpus_per_node=4, actor__num_nodes=2), "cuda")
    assert {g.name: (g.nodes, g.per_node, g.ranks) for g in plan.groups} == dict.fromkeys(
        ("actor", "critic", "ref"), (2, 4, 8)
    )
    plan = make_plan(reverse(actor__num_gpus_per_node=4, critic__num_gpus_per_node=2), "cuda")
    assert [(g.name, g.ranks) for g in plan.groups] == [("actor", 4), ("critic", 2), ("ref", 4)]
    assert len(plan.bundle_sets["critic"]) == 2
    assert plan.batch.data_parallel == 4


def test_a_critic_shares_the_gpus_where_all_do():
    plan = make_plan(reverse(train__colocate_all="true", actor__num_gpus_per_node=2, vllm__num_engines=2), "cuda")
    assert plan.bundle_sets == {"train": [GPU] * 2}
    together = (2, "train", (0, 1), 0.2, 0.2)
    assert shares(plan) == {"actor": together, "critic": together, "ref": together}
    assert {e.gpu for e in plan.engines} == {0.2}  # four tenants of 0.2 fit
    assert plan.problems(Cluster.of("1x2")) == []


def test_a_reference_that_shares_with_the_policy_leaves_the_critic_alone():
    plan = make_plan(reverse(train__colocate_actor_ref="true"), "cuda")
    assert plan.bundle_sets == {"train": [GPU], "critic": [GPU], "engines": [GPU]}
    assert shares(plan)["critic"] == (1, "critic", (0,), 1.0, 1.0)
    assert shares(plan)["actor"] == shares(plan)["ref"] == (1, "train", (0,), 0.2, 0.2)


def test_a_critic_on_a_laptop():
    plan = make_plan(reverse("cpu"), "cpu", cores=2)
    assert plan.bundle_sets == {"actor": [CPU], "critic": [CPU], "ref": [CPU], "engines": [CPU]}
    assert plan.problems(TWO_CORES) == []
    shared = make_plan(reverse("cpu", train__colocate_all="true"), "cpu", cores=2)
    assert shared.bundle_sets == {"train": [{"CPU": 0.4}]}


def test_a_critic_on_two_nodes_of_eight_gpus():
    changes = {"actor__num_gpus_per_node": 4, "vllm__num_engines": 8, "train__colocate_actor_ref": "true"}
    plan = make_plan(reverse(**changes), "cuda", rows=37_365)
    assert {name: len(bundles) for name, bundles in plan.bundle_sets.items()} == {"train": 4, "critic": 4, "engines": 8}
    assert plan.problems(Cluster.of("2x8")) == []
    placed, homeless = plan.place(Cluster.of("2x8"))
    assert homeless == []
    assert placed == {
        "node 0": [("train", i) for i in range(4)] + [("critic", i) for i in range(4)],
        "node 1": [("engines", i) for i in range(8)],
    }
    assert plan.problems(Cluster.of("1x8")) != []
    text = plan.render(Cluster.of("2x8"))
    assert "32 prompts x 1 samples = 32 per step" in text
    assert "critic" in text


def test_a_critic_needs_the_memory_of_a_trained_model():
    with_it, without = (make_plan(make, "cuda", model=QWEN) for make in (reverse(), report()))
    states = {g.name: g.state_gib for g in with_it.groups}
    assert states["critic"] == states["actor"] > 5 * states["ref"]
    assert states["critic"] == pytest.approx(trainer_state_gib(QWEN, "bf16", 2, 1))
    assert with_it.group("critic").activation_gib == with_it.group("actor").activation_gib > 0
    assert without.group("critic") is None


def test_models_that_share_a_gpu_share_its_memory():
    # Policy and critic 16 bytes a parameter each, reference 2: 7.4 + 7.4 + 0.9 GiB, and a CUDA context for each.
    alone, shared = reverse(), reverse(train__colocate_all="true")
    assert make_plan(alone, "cuda", model=QWEN).problems(Cluster.of("1x4x12")) == []
    plan = make_plan(shared, "cuda", model=QWEN)
    assert plan.problems(Cluster.of("1x1x24")) == []
    ((where, what, _),) = plan.problems(Cluster.of("1x1x12"))
    assert where == "memory"
    assert what.startswith("actor and critic and ref: ")


def test_length_of_a_reverse_curriculum_run():
    def steps(rows, **changes):
        return make_plan(reverse(**changes), "cuda", rows=rows).batch

    assert reverse().own_key("max_steps") == "reverse_curriculum.max_steps"
    assert (
        steps(37_365, train__num_episodes=10).steps == 373_650 // 32
    )  # the paper: 10 passes over 5 x 7473 start states
    batch = steps(None, reverse_curriculum__max_steps=7, train__max_epochs=2)
    assert (batch.steps, batch.optimizer_steps, batch.prompts_total) == (7, 14, 7 * 32)
    assert steps(None).steps is None
    assert steps(None).prompts_total is None


def test_a_laptop_with_two_cores_hosts_two_policy_ranks_and_two_engines():
    plan = make_plan(report("cpu", actor__num_gpus_per_node=2, vllm__num_engines=2), "cpu", cores=2)
    assert plan.bundle_sets == {"actor": [CPU] * 2, "ref": [CPU] * 2, "engines": [CPU] * 2}
    assert all(g.gpu == 0 for g in plan.groups)
    assert [g.threads for g in plan.groups] == [1, 1]
    assert [e.threads for e in plan.engines] == [1, 1]
    assert plan.problems(TWO_CORES) == []


def test_shared_bundles_on_cpu_hold_all_tenants():
    plan = make_plan(report("cpu", train__colocate_all="true"), "cpu", cores=2)
    assert plan.bundle_sets == {"train": [{"CPU": 0.3}]}
    assert [g.threads for g in plan.groups] == [2, 2]  # ranks that work in turn may use all cores
    assert make_plan(report("cpu", run__threads=1), "cpu", cores=2).engines[0].threads == 1


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ("1x8", "16 GPUs are asked for (train 8, engines 8), the cluster has 8"),
        ("1x0", "16 GPUs are asked for"),
        ("4x4", "8 ranks per node, but no node has more than 4 GPUs"),
    ],
)
def test_a_cluster_that_is_too_small_says_by_how_much(cluster, words):
    plan = make_plan(report(actor__num_gpus_per_node=8, vllm__num_engines=8, train__colocate_actor_ref="true"), "cuda")
    assert any(words in what and fix for _, what, fix in plan.problems(Cluster.of(cluster)))


def test_engines_do_not_span_nodes():
    plan = make_plan(report(vllm__tensor_parallel_size=4), "cuda")
    assert [where for where, _, _ in plan.problems(Cluster.of("4x2"))] == ["vllm.tensor_parallel_size"]


def test_gpus_without_cores_do_not_help():
    plan = make_plan(report(vllm__num_engines=2), "cuda")
    lopsided = Cluster((Node("a", cpus=1, gpus=4), Node("b", cpus=64, gpus=0)))
    assert plan.problems(lopsided) != []


def test_memory_that_cannot_suffice_is_refused():
    plan = make_plan(report("cpu"), "cpu", model=QWEN, cores=2)
    assert plan.problems(TWO_CORES) == []
    small = Cluster((Node("small", cpus=2, memory_gib=8.0),))
    assert [where for where, _, _ in plan.problems(small)] == ["memory"]
    gpu = make_plan(report(), "cuda", model=QWEN)
    assert gpu.problems(Cluster.of("1x3x24")) == []
    ((where, what, fix),) = gpu.problems(Cluster.of("1x3x4"))
    assert (where, "--ds.adam_offload" in fix) == ("memory", True)
    assert what.startswith("actor: weights, gradients and optimizer need about 8.0 GiB")
    offloaded = make_plan(report(ds__adam_offload="true"), "cuda", model=QWEN)
    assert offloaded.problems(Cluster.of("1x3x4")) == []


def test_sft_arithmetic():
    resolved = load(
        "sft", None, [("train.batch_size", "32"), ("train.micro_batch_size", "4"), ("run.ranks_per_node", "8")]
    )
    plan = make_plan(resolved, "cuda", rows=45_353)
    assert plan.bundle_sets == {"train": [GPU] * 8}
    assert plan.engines == ()
    # 45353 // 8 ranks = 5669 rows, // 4 = 1417 micro-batches of one update each; two epochs
    assert (plan.batch.accumulation, plan.batch.steps_per_episode, plan.batch.steps) == (1, 1417, 2834)
    assert plan.batch.warmup_steps == math.ceil(2834 * 0.03)


def test_an_accumulation_window_runs_on_into_the_next_epoch():
    settings_ = [("train.batch_size", "32"), ("train.micro_batch_size", "8"), ("train.max_epochs", "3")]
    batch = make_plan(load("sft", None, settings_), "cpu", rows=50).batch
    # 6 micro-batches per epoch, 18 in all, 4 per update
    assert (batch.steps_per_episode, batch.steps) == (1, 4)


def test_length_of_a_rollout_run():
    def steps(rows, **changes):
        return make_plan(report(**changes), "cuda", rows=rows).batch.steps

    assert steps(None) == 50  # grpo.max_steps of the preset
    assert steps(1262, grpo__max_steps="null") == 1262 * 10 // 12
    assert steps(None, grpo__max_steps="null") is None
    assert steps(1262, grpo__max_steps="null", data__max_samples=24, train__num_episodes=1) == 2


def test_several_updates_per_step_lengthen_the_schedule():
    batch = make_plan(report(train__batch_size=48, train__max_epochs=2), "cuda").batch
    assert (batch.updates_per_step, batch.optimizer_steps) == (4, 200)


def test_a_wasted_first_update_and_a_small_cache_are_noted():
    head = make_plan(report(grpo__preset="head"), "cuda")
    assert head.batch.warmup_steps == 20
    assert any("the first update has rate 0" in note for note in head.notes)
    assert make_plan(report(), "cuda").notes == ()
    cpu = make_plan(report("cpu"), "cpu", model=QWEN)
    # 96 sequences x 1280 tokens x 24 layers x 2 heads x 64 x 2 x 4 bytes = 2.8 GiB
    assert any("2.8 GiB of cache" in note for note in cpu.notes)


def test_the_plan_is_plain_data_and_readable():
    plan = make_plan(report(), "cuda", rows=1262, model=QWEN)
    stored = json.loads(json.dumps(plan.to_json()))
    assert stored["bundle_sets"]["actor"] == [GPU]
    assert stored["batch"]["samples_per_step"] == 96
    text = plan.render(Cluster.of("1x3"))
    for words in (
        "12 prompts x 8 samples = 96 per step",
        "50 steps, 50 optimizer updates",
        "actor on bundle 0",
        "books 3 GPU",
    ):
        assert words in text
    assert max(len(line) for line in text.splitlines()) < 180


@settings(max_examples=40)
@given(
    ranks=st.integers(1, 8),
    engines=st.integers(1, 8),
    nodes=st.integers(1, 4),
    gpus=st.integers(1, 8),
    share=st.booleans(),
)
def test_placing_never_books_more_than_a_node_has(ranks, engines, nodes, gpus, share):
    plan = make_plan(
        report(actor__num_gpus_per_node=ranks, vllm__num_engines=engines, train__colocate_actor_ref=str(share)), "cuda"
    )
    cluster = Cluster.of(f"{nodes}x{gpus}")
    placed, homeless = plan.place(cluster)
    assert all(len(held) <= gpus for held in placed.values())
    wanted = sum(len(bundles) for bundles in plan.bundle_sets.values())
    assert bool(homeless) == (wanted > nodes * gpus)
    if not homeless:
        assert sum(len(held) for held in placed.values()) == wanted


def test_cluster_descriptions():
    assert [(n.name, n.gpus, n.cpus) for n in Cluster.of("2x8").nodes] == [("node 0", 8, 128), ("node 1", 8, 128)]
    assert Cluster.of("1x8x80").nodes[0].gpu_memory_gib == 80
    assert (Cluster.of("1x0").device, Cluster.of("1x0").cpus, Cluster.of("1x1").device) == ("cpu", 16, "cuda")
    for text in ("8", "0x8", "two", "2x", "x8", "2x8x"):
        with pytest.raises(ValueError, match="NODESxGPUS"):
            Cluster.of(text)


def test_this_machine_has_cores_and_memory():
    (node,) = Cluster.local().nodes
    assert node.cpus >= 1
    assert node.memory_gib > 0.5


def test_hidden_gpus_do_not_count(monkeypatch):
    from openrlhf_ext import cluster

    monkeypatch.setattr(cluster, "_torch_is_cpu_only", lambda: False)
    monkeypatch.setattr(cluster.Path, "glob", lambda self, pattern: [self / "nvidia0", self / "nvidia1"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert len(cluster.visible_gpus()) == 2
    for text, count in (("1", 1), ("", 0), ("-1", 0), ("0,1", 2), ("0,1,2", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
        assert len(cluster.visible_gpus()) == count
    monkeypatch.setattr(cluster, "_torch_is_cpu_only", lambda: True)
    assert cluster.visible_gpus() == ()


def test_memory_formulas():
    million = ModelShape(10**6, 2, 64, 2, 2, 32, 1000)
    # bf16: 2 bytes weights + 2 gradients + 12 optimizer
    assert trainer_state_gib(million, "bf16", 0, 4) * GIB == pytest.approx(16e6)
    assert trainer_state_gib(million, "bf16", 1, 4) * GIB == pytest.approx(4e6 + 3e6)
    assert trainer_state_gib(million, "bf16", 2, 4) * GIB == pytest.approx(2e6 + 0.5e6 + 3e6)
    assert trainer_state_gib(million, "bf16", 3, 4) * GIB == pytest.approx(4e6)
    assert trainer_state_gib(million, "float32", 2, 1) * GIB == pytest.approx(20e6)
    assert frozen_state_gib(million, "bf16", 2, 4) * GIB == pytest.approx(2e6)
    assert frozen_state_gib(million, "bf16", 3, 4) * GIB == pytest.approx(0.5e6)
    assert million.kv_bytes_per_token("float32") == 2 * 2 * 2 * 32 * 4
    assert activation_gib(million, "bf16", 4, 100, training=True) > activation_gib(
        million, "bf16", 4, 100, training=False
    )


def test_shape_of_a_saved_model(tmp_path):
    config = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 100,
        "intermediate_size": 128,
        "tie_word_embeddings": True,
        "max_position_embeddings": 512,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = read_shape(tmp_path)
    assert (shape.head_size, shape.kv_heads, shape.positions) == (32, 1, 512)
    # per layer: q and o 64x64 each, k and v 64x32 each, mlp 3x64x128, two norms of 64; embedding 100x64; last norm 64
    assert shape.parameters == 2 * (2 * 4096 + 2 * 2048 + 3 * 8192 + 128) + 6400 + 64
    header = json.dumps({"w": {"dtype": "F32", "shape": [3, 5], "data_offsets": [0, 60]}, "__metadata__": {}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(60))
    assert read_shape(tmp_path).parameters == 15
    (tmp_path / "config.json").write_text("{}")
    assert read_shape(tmp_path) is None
