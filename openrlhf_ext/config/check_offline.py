"""Rules of methods on stored trajectories (OREO): what cannot work there, and keys of OpenRLHF's PPO that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from openrlhf_ext.config.check_rollout import without_effect
from openrlhf_ext.config.problem import Problem

if TYPE_CHECKING:
    from openrlhf_ext.config.load import Resolved

_OFF: dict[str, str] = {
    "ds.lora.rank": "it would wrap the policy too, whose KL to the reference needs both models whole",
    "ds.load_in_4bit": "the policy is trained whole, and the value network's head is written with its weights",
    "ds.packing_samples": "values and log-probs are taken from padded rows",
    "train.dynamic_batch_enable": "it packs samples; values and log-probs are taken from padded rows",
    "ds.use_liger_kernel": "it replaces the output layer, which is called on the actions alone here",
    "train.enable_ema": "no averaged policy is kept",
    "train.async_enable": "nothing is generated",
    "train.partial_rollout_enable": "nothing is generated",
    "train.agent_func_path": "nothing is generated",
    "ds.enable_sleep": "both networks take part in every step",
    "data.max_images_per_prompt": "trajectories are text only",
    "actor.aux_loss_coef": "the loss has no such term",
    "actor.entropy_coef": "the loss has no such term",
    "vllm.num_engines": "nothing is generated; openrlhf-ext evaluate starts engines of its own",
    "eval.dataset": "nothing is generated while training",
}
"""Key -> why it must stay off (false, 0 or null)."""

_FIXES = {
    "eval.dataset": "leave it out, and afterwards: openrlhf-ext evaluate --model RUN/model",
    "ds.lora.rank": "leave it out; LoRA of the value network alone is --oreo.critic_lora_rank 64",
}

_ONE = {"ds.ring_attn_size": "ring attention", "ds.tensor_parallel_size": "tensor parallel"}

_NO_EFFECT: tuple[tuple[str, str], ...] = (
    ("rollout.", "nothing is generated"),
    ("vllm.", "nothing is generated"),
    ("eval.", "nothing is generated while training"),
    ("algo.", "the loss is OREO's: see oreo.*"),
    ("reward.", "rewards stand in the data; their scale is oreo.reward_low to oreo.reward_high"),
    ("ref.num_", "the reference sits in the policy's workers"),
    ("train.num_episodes", "passes over the trajectories are train.max_epochs"),
    ("train.colocate_actor_ref", "the reference sits in the policy's workers"),
    ("train.colocate_critic_reward", "there is no reward model"),
    ("train.async_queue_size", "nothing is generated"),
    ("actor.eps_clip", "the loss has no ratio to clip"),
    ("actor.dual_clip", "the loss has no ratio to clip"),
    ("actor.policy_loss_type", "the loss is OREO's"),
    ("actor.loss_agg_mode", "OREO averages inside a trajectory, then over trajectories"),
    ("critic.value_clip", "the value loss is a plain square"),
    ("critic.save_value_network", "the value network is always saved"),
    ("data.input_", "trajectories hold rendered prompts"),
    ("data.apply_chat_template", "trajectories hold rendered prompts"),
    ("data.label_key", "rewards stand in the data"),
    ("data.prompt_probs", "the trajectories come from one file"),
    ("data.prompt_split", "the trajectories come from one file"),
    ("data.dataloader_num_workers", "trajectories are in memory"),
    ("task.on_error", "nothing is graded"),
    ("run.keep_rollouts", "nothing is generated"),
    ("run.kv_cache_gib", "there are no engines"),
    ("run.sync_timeout", "there are no engines"),
    ("ckpt.save_hf", "the final models are saved in Hugging Face form"),
    ("ckpt.max_mem", "ckpt.max_num alone limits the checkpoints"),
    ("ckpt.best_metric_key", "checkpoints are kept by age"),
)
"""Key prefix -> why nothing reads it here."""


def offline_problems(resolved: Resolved) -> Iterator[Problem]:
    """All problems of the values of a method on stored trajectories."""
    for key, why in _OFF.items():
        if resolved.get(key):
            yield Problem(resolved.where(key), why, _FIXES.get(key, "leave it out"))
    for key, name in _ONE.items():
        if resolved.whole(key) > 1:
            what = f"{name} cuts sequences or layers that the losses need whole"
            yield Problem(resolved.where(key), what, f"--{key} 1; --ds.zero_stage 3 spreads the weights")
    yield from _oreo(resolved)
    yield from _sharing(resolved)
    refused = set(_OFF) | set(_ONE)
    yield from (p for p in without_effect(resolved, _NO_EFFECT) if p.where.split(" (")[0] not in refused)


def _oreo(resolved: Resolved) -> Iterator[Problem]:
    oreo, where = resolved.oreo, resolved.where
    if not oreo.reward_low < oreo.reward_high:
        what = f"{oreo.reward_low:g} is not below oreo.reward_high {oreo.reward_high:g}"
        yield Problem(where("oreo.reward_low"), what, "--oreo.reward_low 0 --oreo.reward_high 1")
    if oreo.delimiters is not None and (not oreo.delimiters or "" in oreo.delimiters):
        what = f"{oreo.delimiters!r}: delimiters are texts of at least one character"
        yield Problem(where("oreo.delimiters"), what, 'in YAML: delimiters: ["\\n"]')
    if oreo.level != "step" and oreo.delimiters is not None:
        yield Problem(where("oreo.delimiters"), f"has no effect at level {oreo.level}", "leave it out", note=True)
    if oreo.critic_lora_alpha is not None and not oreo.critic_lora_rank:
        what = "has no effect without LoRA"
        yield Problem(where("oreo.critic_lora_alpha"), what, "--oreo.critic_lora_rank 64, or leave it out", note=True)
    if resolved.whole("critic.freezing_steps") > -1:
        what = "both networks learn from the first step"
        yield Problem(where("critic.freezing_steps"), what, "leave it out")
    if oreo.regulariser == "exact" and oreo.reference_cache is not None:
        what = "has no effect: the exact KL needs the reference itself"
        yield Problem(where("oreo.reference_cache"), what, "--oreo.regulariser sampled, or leave it out", note=True)


def _sharing(resolved: Resolved) -> Iterator[Problem]:
    sizes = [(resolved.whole(f"{n}.num_nodes"), resolved.whole(f"{n}.num_gpus_per_node")) for n in ("actor", "critic")]
    if resolved.flag("train.colocate_all") and sizes[0] != sizes[1]:
        policy, value = (f"{nodes} x {per_node}" for nodes, per_node in sizes)
        what = f"policy ({policy}) and value network ({value}) share GPUs, so they must have equal sizes"
        yield Problem(
            resolved.where("critic.num_gpus_per_node"),
            what,
            "leave critic.num_nodes and critic.num_gpus_per_node out",
        )
