"""Every rule finds its mistake, names the key and a fix; a valid request has no problems."""

from __future__ import annotations

import pytest

from openrlhf_ext.config.check import check, errors, notes


def where(problems) -> set[str]:
    return {problem.where.split(" (")[0] for problem in problems}


def test_valid_requests_have_no_problems(grpo, sft):
    assert check(grpo()) == []
    assert check(grpo(device="cuda")) == []
    assert check(sft()) == []
    assert check(sft(device="cuda")) == []


GRPO_MISTAKES = [
    ("algo.advantage.estimator", "gae"),
    ("algo.advantage.estimator", "dr_grpo"),
    ("algo.advantage.gamma", "0.99"),
    ("algo.advantage.no_std_norm", "true"),
    ("algo.kl.target", "6"),
    ("actor.lr_scheduler", "reduce_lr_on_plateau"),
    ("actor.dual_clip", "0.5"),
    ("actor.adam.lr", "0"),
    ("ckpt.disable_ds", "true"),
    ("critic.freezing_steps", "5"),
    ("data.input_template", "Q: "),
    ("data.input_template", "{} and {}"),
    ("data.input_template", "{question} {}"),
    ("data.input_template", "{}\\n"),
    ("data.label_key", "null"),
    ("data.max_images_per_prompt", "1"),
    ("ds.lora.rank", "8"),
    ("ds.zero_stage", "4"),
    ("eval.steps", "0"),
    ("eval.steps", "5"),  # without eval.dataset
    ("ckpt.save_steps", "0"),
    ("grpo.max_momentum", "1"),
    ("grpo.final_temperature", "0"),
    ("logger.logging_steps", "0"),
    ("reward.clip_range", "1,-1"),
    ("reward.overlong_buffer_len", "200"),
    ("rollout.max_new_tokens", "2048"),
    ("rollout.n_samples_per_prompt", "1"),
    ("rollout.temperature", "0"),
    ("rollout.top_p", "1.5"),
    ("rollout.vllm_generate_batch_size", "4"),
    ("run.precision", "fp16"),
    ("run.seed", "-1"),
    ("train.agent_func_path", "agent.py"),
    ("train.async_enable", "true"),
    ("train.partial_rollout_enable", "true"),
    ("vllm.num_engines", "0"),
]


@pytest.mark.parametrize(("key", "text"), GRPO_MISTAKES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_each_mistake_is_found_at_its_key(grpo, key, text, device):
    found = errors(check(grpo({key: text}, device)))
    assert key in where(found)
    assert all(problem.fix for problem in found)
    assert all("(command line)" in problem.where for problem in found if problem.where.startswith(key))


@pytest.mark.parametrize("missing", ["task.name", "actor.model_name_or_path", "data.prompt_dataset"])
def test_what_a_rollout_needs_is_asked_for(grpo, missing):
    assert where(errors(check(grpo({missing: "null"})))) >= {missing}


def test_all_mistakes_are_found_together(grpo):
    found = check(
        grpo({"rollout.top_p": "0", "ds.lora.rank": "4", "train.batch_size": "24", "train.async_enable": "true"})
    )
    assert where(errors(found)) == {"rollout.top_p", "ds.lora.rank", "train.batch_size", "train.async_enable"}


CPU_MISTAKES = [
    ("vllm.sync_backend", "nccl"),
    ("ds.attn_implementation", "flash_attention_2"),
    ("ds.packing_samples", "true"),
    ("train.dynamic_batch_enable", "true"),
    ("vllm.enable_sleep", "true"),
    ("ds.enable_sleep", "true"),
    ("train.enable_ema", "true"),
    ("vllm.enforce_eager", "false"),
    ("vllm.tensor_parallel_size", "2"),
    ("ds.tensor_parallel_size", "2"),
    ("ds.ring_attn_size", "2"),
    ("ds.adam_offload", "true"),
    ("ds.use_liger_kernel", "true"),
    ("ds.load_in_4bit", "true"),
    ("ds.overlap_comm", "true"),
]


@pytest.mark.parametrize(("key", "text"), CPU_MISTAKES)
def test_what_needs_a_gpu_is_refused_on_cpu_with_the_value_that_works(grpo, key, text):
    problem = next(p for p in check(grpo({key: text})) if p.where.startswith(key))
    assert not problem.note
    assert "without a GPU" in problem.what
    assert f"--{key} " in problem.fix


@pytest.mark.parametrize("key", ["ds.packing_samples", "train.dynamic_batch_enable", "ds.adam_offload"])
def test_the_same_is_allowed_on_a_gpu(grpo, key):
    assert errors(check(grpo({key: "true"}, "cuda"))) == []


def test_flash_attention_needs_sixteen_bits(grpo):
    found = check(
        grpo(
            {"run.precision": "float32", "ds.attn_implementation": "flash_attention_2", "ds.packing_samples": "true"},
            "cuda",
        )
    )
    assert where(errors(found)) == {"ds.attn_implementation", "ds.packing_samples"}


def test_sharing_gpus(grpo):
    one_gpu = {"train.colocate_all": "true", "vllm.gpu_memory_utilization": "0.4"}
    assert errors(check(grpo(one_gpu, "cuda"))) == []
    assert where(check(grpo({"train.colocate_all": "true"}, "cuda"))) == {"vllm.gpu_memory_utilization"}
    assert where(check(grpo(one_gpu | {"vllm.num_engines": "2"}, "cuda"))) == {"vllm.num_engines"}
    sleeping = one_gpu | {"vllm.enable_sleep": "true", "ds.enable_sleep": "true"}
    assert where(check(grpo(sleeping, "cuda"))) == {"vllm.enable_sleep", "ds.enable_sleep"}
    unequal = {"train.colocate_actor_ref": "true", "actor.num_gpus_per_node": "2", "ref.num_gpus_per_node": "1"}
    assert where(check(grpo(unequal, "cuda"))) == {"ref.num_gpus_per_node"}
    assert errors(check(grpo(unequal | {"algo.kl.init_coef": "0"}, "cuda"))) == []


def test_importance_correction_needs_the_full_softmax(grpo):
    token = {"algo.advantage.is_correction_level": "token"}
    assert errors(check(grpo(token))) == []
    assert where(check(grpo(token | {"rollout.top_p": "0.9"}))) == {"algo.advantage.is_correction_level"}
    clip = {"algo.advantage.is_correction_level": "seq", "algo.advantage.is_correction_mode": "clip"}
    assert where(check(grpo(clip))) == {"algo.advantage.is_correction_mode"}
    divergence = token | {"algo.advantage.is_correction_gating": "tv"}
    assert where(check(grpo(divergence))) == {"algo.advantage.is_correction_threshold"}
    assert errors(check(grpo(divergence | {"algo.advantage.is_correction_threshold": "0.2"}))) == []


def test_pass_at_k_needs_sampling(grpo):
    sampled = {"eval.dataset": "test.jsonl", "evaluation.sample_rows": "32"}
    assert errors(check(grpo(sampled))) == []
    assert where(check(grpo(sampled | {"eval.temperature": "0"}))) == {"evaluation.sample_rows"}
    assert where(check(grpo(sampled | {"eval.n_samples_per_prompt": "1"}))) == {"evaluation.sample_rows"}


def test_muon_with_clipping_is_refused(grpo, sft):
    assert where(check(grpo({"actor.optim": "muon"}))) == {"actor.max_norm"}
    assert errors(check(grpo({"actor.optim": "muon", "actor.max_norm": "0"}))) == []
    assert where(check(sft({"optim": "muon"}))) == {"max_norm"}


def test_two_clip_ranges_contradict(grpo):
    assert where(check(grpo({"actor.eps_clip_low_high": "0.2,0.28", "actor.eps_clip": "0.2"}))) == {
        "actor.eps_clip_low_high"
    }
    assert errors(check(grpo({"actor.eps_clip_low_high": "0.2,0.28"}))) == []


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("critic.adam.lr", "1e-3"),
        ("reward.model_name_or_path", "rm"),
        ("train.async_queue_size", "3"),
        ("actor.muon.lr", "0.1"),
        ("vllm.gpu_memory_utilization", "0.5"),
        ("train.max_tokens_per_gpu", "100"),
        ("ckpt.best_metric_key", "x"),
        ("algo.kl.horizon", "100"),
    ],
)
def test_keys_without_effect_are_remarked_on(grpo, key, text):
    found = check(grpo({key: text}))
    assert errors(found) == []
    assert where(notes(found)) == {key}


def test_remarks_on_what_will_happen(grpo):
    assert where(notes(check(grpo({"algo.kl.estimator": "k1"})))) == {"algo.kl.estimator"}
    assert notes(check(grpo({"algo.kl.estimator": "k1", "algo.kl.init_coef": "0"}))) == []
    assert where(notes(check(grpo({"ckpt.save_steps": "-1"})))) == {"ckpt.save_steps"}
    assert where(notes(check(grpo({"rollout.max_new_tokens": "null"})))) == {"rollout.max_new_tokens"}


def test_sft_mistakes(sft):
    assert where(check(sft({"data.output_key": "null"}))) == {"data.output_key"}
    assert errors(check(sft({"data.output_key": "null", "model.pretrain_mode_enable": "true"}))) == []
    assert where(check(sft({"data.multiturn": "true"}))) == {"data.multiturn"}
    assert where(check(sft({"eval.steps": "10"}))) == {"eval.steps"}
    assert errors(check(sft({"ds.lora.rank": "8"}))) == []
    assert where(notes(check(sft({"ckpt.max_mem": "100"})))) == {"ckpt.max_mem"}
    assert where(check(sft({"run.precision": "fp16"}))) == {"run.precision"}
    assert errors(check(sft({"run.precision": "fp16"}, "cuda"))) == []
    assert where(check(sft({"model.model_name_or_path": "null", "data.dataset": "null"}))) == {
        "model.model_name_or_path",
        "data.dataset",
    }


def test_openrlhf_has_the_last_word(grpo, monkeypatch):
    from openrlhf_ext.upstream.cli import UpstreamArgumentError

    resolved = grpo()

    def refuse(*_):
        raise UpstreamArgumentError("no such thing")

    monkeypatch.setattr("openrlhf_ext.config.resolved.parse", refuse)
    (problem,) = check(resolved)
    assert (problem.where, problem.what) == ("OpenRLHF", "no such thing")
