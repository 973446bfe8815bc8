"""Requests of OREO: what is refused with a fix, what is remarked on, and what follows from the method."""

from __future__ import annotations

import pytest

from openrlhf_ext.config.check import check, errors, notes
from openrlhf_ext.config.load import load
from openrlhf_ext.config.resolved import Resolved


def oreo(device: str = "cpu", **changes: str) -> Resolved:
    settings = {
        "run.device": device,
        "actor.model_name_or_path": "models/sft",
        "data.prompt_dataset": "data/trajectories.jsonl",
        "ckpt.save_steps": "10",
        "train.batch_size": "32",
        "train.micro_batch_size": "8",
    } | {key.replace("__", "."): value for key, value in changes.items()}
    return load("oreo", None, list(settings.items()), local_device=device)


def where(problems) -> set[str]:
    return {problem.where.split(" (")[0] for problem in problems}


def test_a_valid_request_has_no_problems_and_needs_neither_task_nor_engines() -> None:
    for device in ("cpu", "cuda"):
        resolved = oreo(device)
        assert check(resolved) == []
        assert resolved.whole("vllm.num_engines") == 0 and not resolved.task and resolved.offline
        args = resolved.upstream_args()
        assert args.critic.model_name_or_path == args.actor.model_name_or_path, "upstream makes the critic from it"
        assert (args.actor.adam.lr, args.critic.adam.lr, args.actor.lr_scheduler) == (5e-6, 5e-6, "cosine")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("ds.lora.rank", "8"),
        ("ds.load_in_4bit", "true"),
        ("ds.packing_samples", "true"),
        ("ds.use_liger_kernel", "true"),
        ("ds.ring_attn_size", "2"),
        ("ds.tensor_parallel_size", "2"),
        ("train.dynamic_batch_enable", "true"),
        ("train.async_enable", "true"),
        ("train.enable_ema", "true"),
        ("actor.aux_loss_coef", "0.01"),
        ("actor.entropy_coef", "0.01"),
        ("vllm.num_engines", "1"),
        ("eval.dataset", "data/test.jsonl"),
        ("oreo.beta", "0"),
        ("oreo.alpha", "-1"),
        ("oreo.kl_chunk", "0"),
        ("oreo.max_steps", "0"),
        ("oreo.critic_lora_rank", "-1"),
        ("oreo.critic_lora_alpha", "0"),
        ("oreo.per_problem", "0"),
        ("oreo.reward_low", "1"),
        ("oreo.delimiters", ","),
        ("train.batch_size", "30"),
        ("critic.num_gpus_per_node", "3"),
        ("critic.freezing_steps", "5"),
        ("data.prompt_dataset", "null"),
        ("actor.lr_scheduler", "reduce_lr_on_plateau"),
    ],
)
def test_each_mistake_is_found_at_its_key(key: str, text: str) -> None:
    found = errors(check(oreo("cuda", **{key: text})))
    assert key in where(found)
    assert all(problem.fix for problem in found)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("rollout.temperature", "0.7"),
        ("algo.kl.init_coef", "0.1"),
        ("train.num_episodes", "3"),
        ("critic.value_clip", "0.2"),
        ("data.input_template", "{}"),
        ("oreo.delimiters", ". "),
        ("oreo.reference_cache", "cache.safetensors"),
    ],
)
def test_what_nothing_reads_is_remarked_on(key: str, text: str) -> None:
    found = check(oreo(**{key: text}))
    assert errors(found) == [] and key in where(notes(found))


def test_groups_that_share_gpus_need_equal_sizes() -> None:
    found = check(oreo("cuda", train__colocate_all="true", actor__num_gpus_per_node="2", critic__num_gpus_per_node="1"))
    assert where(errors(found)) == {"critic.num_gpus_per_node"}


def test_a_method_with_engines_still_needs_one(grpo) -> None:
    assert "vllm.num_engines" in where(errors(check(grpo({"vllm.num_engines": "0"}))))


def test_lora_is_for_the_value_network_alone() -> None:
    (refused,) = errors(check(oreo(ds__lora__rank="64")))
    assert "wrap the policy too" in refused.what and "--oreo.critic_lora_rank 64" in refused.fix
    assert check(oreo(oreo__critic_lora_rank="64", oreo__critic_lora_alpha="32")) == []
    (noted,) = check(oreo(oreo__critic_lora_alpha="32"))
    assert noted.note and "no effect without LoRA" in noted.what
    from openrlhf_ext.launch_offline import worker_settings
    from openrlhf_ext.upstream.adapters import Adapter

    assert worker_settings(oreo()).value_adapter is None
    assert worker_settings(oreo(oreo__critic_lora_rank="64")).value_adapter == Adapter(64, 64)
    assert worker_settings(oreo(oreo__critic_lora_rank="8", oreo__critic_lora_alpha="4")).value_adapter == Adapter(8, 4)
    assert oreo(oreo__critic_lora_rank="8").upstream_args().ds.lora.rank == 0, "the policy stays whole"
