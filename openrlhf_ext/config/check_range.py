"""Keys whose value must lie in a range."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from openrlhf_ext.config.problem import Problem

if TYPE_CHECKING:
    from openrlhf_ext.config.load import Resolved

_AT_LEAST_1 = (
    "actor.num_nodes",
    "actor.num_gpus_per_node",
    "ref.num_nodes",
    "ref.num_gpus_per_node",
    "vllm.num_engines",
    "vllm.tensor_parallel_size",
    "run.nodes",
    "run.ranks_per_node",
    "run.kv_cache_gib",
    "rollout.batch_size",
    "rollout.micro_batch_size",
    "rollout.max_new_tokens",
    "rollout.n_samples_per_prompt",
    "train.batch_size",
    "train.micro_batch_size",
    "train.max_epochs",
    "train.num_episodes",
    "data.max_len",
    "data.max_samples",
    "ds.ring_attn_size",
    "ds.tensor_parallel_size",
    "eval.n_samples_per_prompt",
    "evaluation.limit",
    "grpo.max_steps",
    "reverse_curriculum.max_steps",
    "oreo.max_steps",
    "oreo.kl_chunk",
    "oreo.critic_lora_alpha",
    "oreo.per_problem",
    "critic.num_nodes",
    "critic.num_gpus_per_node",
    "ckpt.max_num",
    "logger.logging_steps",
)

_RANGES: dict[str, tuple[float, float, bool, bool]] = {
    "run.seed": (0, 2**31 - 1, True, True),
    "evaluation.sample_rows": (0, math.inf, True, False),
    "run.threads": (0, math.inf, True, True),
    "run.keep_rollouts": (0, math.inf, True, True),
    "run.placement_timeout": (0, math.inf, False, True),
    "run.engine_timeout": (0, math.inf, False, True),
    "run.sync_timeout": (0, math.inf, False, True),
    "run.step_timeout": (0, math.inf, False, True),
    "rollout.top_p": (0, 1, False, True),
    "rollout.temperature": (0, math.inf, False, False),
    "grpo.final_temperature": (0, math.inf, False, False),
    "grpo.max_momentum": (0, 1, True, False),
    "grpo.advantage_eps": (0, math.inf, False, False),
    "reverse_curriculum.adaptive_floor": (0, 1, False, True),
    "reverse_curriculum.adaptive_memory": (1, math.inf, True, False),
    "eval.temperature": (0, math.inf, True, False),
    "algo.kl.init_coef": (0, math.inf, True, False),
    "algo.advantage.gamma": (0, 1, True, True),
    "algo.advantage.lambd": (0, 1, True, True),
    "critic.adam.lr": (0, 1, False, True),
    "critic.adam.weight_decay": (0, 1, True, False),
    "critic.lr_warmup_ratio": (0, 1, True, True),
    "critic.max_norm": (0, math.inf, True, False),
    "oreo.beta": (0, math.inf, False, False),
    "oreo.alpha": (0, math.inf, True, False),
    "oreo.critic_lora_rank": (0, math.inf, True, False),
    "critic.value_clip": (0, math.inf, False, True),
    "actor.eps_clip": (0, 1, False, True),
    "actor.adam.lr": (0, 1, False, True),
    "actor.adam.weight_decay": (0, 1, True, False),
    "actor.max_norm": (0, math.inf, True, False),
    "actor.lr_warmup_ratio": (0, 1, True, True),
    "actor.min_lr_ratio": (0, 1, True, True),
    "actor.dual_clip": (1, math.inf, False, False),
    "model.beta": (0, math.inf, False, False),
    "model.label_smoothing": (0, 0.5, True, False),
    "model.nll_loss_coef": (0, math.inf, True, False),
    "kto.desirable_weight": (0, math.inf, False, False),
    "kto.undesirable_weight": (0, math.inf, False, False),
    "adam.lr": (0, 1, False, True),
    "adam.weight_decay": (0, 1, True, False),
    "max_norm": (0, math.inf, True, False),
    "lr_warmup_ratio": (0, 1, True, True),
    "min_lr_ratio": (0, 1, True, True),
    "vllm.gpu_memory_utilization": (0, 1, False, True),
    "ds.zero_stage": (0, 3, True, True),
    "ds.lora.rank": (0, math.inf, True, False),
    "ds.lora.dropout": (0, 1, True, False),
    "reward.stop_properly_penalty_coef": (-math.inf, 1, False, True),
}
"""Key -> (low, high, low allowed, high allowed)."""

_EVERY_N = ("eval.steps", "ckpt.save_steps")


def has_positive_sizes(resolved: Resolved) -> bool:
    """Are all sizes at least 1, so that batch and placement can be computed?"""
    values = (resolved.number_or_none(key) for key in _sizes(resolved))
    return all(value is None or value >= 1 for value in values)


def _sizes(resolved: Resolved) -> Iterator[str]:
    """Keys that must be at least 1; a method on stored trajectories has no engines."""
    return (key for key in _AT_LEAST_1 if not (resolved.offline and key == "vllm.num_engines"))


def range_problems(resolved: Resolved) -> Iterator[Problem]:
    """Values outside their range; keys that the method does not have, or that are null, are skipped."""
    for key in _sizes(resolved):
        value = resolved.number_or_none(key)
        if value is not None and value < 1:
            yield Problem(resolved.where(key), f"{value:g} is less than 1", f"--{key} 1 or more")
    for key, (low, high, low_in, high_in) in _RANGES.items():
        value = resolved.number_or_none(key)
        if value is None or (
            (value > low or (low_in and value == low)) and (value < high or (high_in and value == high))
        ):
            continue
        bounds = f"{'[' if low_in else '('}{low:g}, {high:g}{']' if high_in else ')'}"
        yield Problem(resolved.where(key), f"{value:g} is outside {bounds}", f"choose a value in {bounds}")
    for key in _EVERY_N:
        value = resolved.number_or_none(key)
        if value is not None and (value == 0 or value < -1):
            # OpenRLHF takes the step number modulo this
            yield Problem(
                resolved.where(key), f"{value:g} is not an interval", f"--{key} -1 (OpenRLHF's default) or 1 and more"
            )
