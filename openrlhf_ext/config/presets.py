"""Layers below the user's own settings: what a method needs to be itself, and the published sets of values.

Order: OpenRLHF's defaults < ``METHOD_DEFAULTS`` < ``device.defaults`` < preset < YAML < command line.
"""

from __future__ import annotations

_PAIRS: dict[str, object] = {
    "data.prompt_key": "prompt",  # without it OpenRLHF takes the prompt for empty
    "data.input_template": None,
    "eval.split": "train",  # of a local file, which has no other
}

METHOD_DEFAULTS: dict[str, dict[str, object]] = {
    "dpo": _PAIRS,
    "self-explore": _PAIRS,
    "kto": _PAIRS,
    "rm": _PAIRS | {"preference.ends": "both"},  # a policy's finished answers end, and their scores are read there
    "sft": {
        "data.output_key": "output",  # without it OpenRLHF drops every row
        "data.input_template": None,  # OpenRLHF's SFT would wrap inputs in "User: ..", which its PPO then does not
    },
    "grpo": {
        "algo.advantage.estimator": "group_norm",
        "algo.kl.use_loss": True,
        "algo.kl.estimator": "k3",
        "actor.loss_agg_mode": "seq-mean-token-mean",
        "actor.num_gpus_per_node": 1,
        "rollout.n_samples_per_prompt": 8,
        "vllm.num_engines": 1,
        "data.label_key": "label",
        "eval.temperature": 1.0,
        "eval.n_samples_per_prompt": 8,
    },
    "reverse-curriculum": {
        "algo.advantage.estimator": "gae",
        "algo.advantage.lambd": 0.95,
        "algo.kl.use_loss": False,
        "algo.kl.estimator": "k1",
        "actor.loss_agg_mode": "seq-mean-token-mean",
        "actor.num_gpus_per_node": 1,
        "critic.value_clip": 0.2,
        "rollout.n_samples_per_prompt": 1,
        "vllm.num_engines": 1,
        "data.label_key": "label",
        "eval.temperature": 1.0,
        "eval.n_samples_per_prompt": 8,
    },
    "rllr": {
        "algo.advantage.estimator": "gae",
        "algo.advantage.lambd": 0.95,
        "algo.kl.use_loss": False,
        "algo.kl.estimator": "k1",
        "algo.kl.init_coef": 0.2,
        "actor.num_gpus_per_node": 1,
        "critic.value_clip": 0.2,
        "rollout.n_samples_per_prompt": 1,
        "vllm.num_engines": 1,
        "data.label_key": "label",
        "eval.temperature": 1.0,
        "eval.n_samples_per_prompt": 8,
    },
    "oreo": {
        "algo.advantage.estimator": "gae",  # the value network is OpenRLHF's critic
        "algo.kl.init_coef": 0.0,  # the reference is part of the loss, not a group of its own
        "actor.num_gpus_per_node": 1,
        "actor.adam.lr": 5e-6,
        "actor.lr_scheduler": "cosine",
        "critic.adam.lr": 5e-6,
        "critic.lr_scheduler": "cosine",
        "vllm.num_engines": 0,
        "vllm.sync_backend": "gloo",  # with NCCL, OpenRLHF's policy worker imports vLLM to look at its version
    },
}
"""Where OpenRLHF's own default would make another method of it, or make it unusable on one machine."""

_GAME24_RUN: dict[str, object] = {
    "run.seed": 42,
    "rollout.batch_size": 12,
    "rollout.max_new_tokens": 1024,
    "data.max_len": 1280,
    "actor.eps_clip": 0.2,
    "actor.max_norm": 0.0,
    "actor.adam.betas": [0.9, 0.999],
    "actor.adam.weight_decay": 0.01,
    "train.max_epochs": 1,
    "train.num_episodes": 10,
    "algo.kl.use_loss": True,
    "algo.kl.estimator": "k3",
}

PRESETS: dict[str, dict[str, object]] = {
    "none": {},
    "report": _GAME24_RUN
    | {
        "actor.adam.lr": 2e-6,
        "actor.lr_scheduler": "constant",
        "actor.lr_warmup_ratio": 0.0,
        "algo.kl.init_coef": 0.01,
        "grpo.max_momentum": 0.2,
        "grpo.max_steps": 50,
        "ckpt.save_steps": 10,
        "rollout.n_samples_per_prompt": 8,
        "rollout.micro_batch_size": 4,
        "rollout.top_p": 0.9,
        "rollout.temperature": 0.7,
        "train.batch_size": 96,
        "train.micro_batch_size": 4,
    },
    "head": _GAME24_RUN
    | {
        "actor.adam.lr": 1e-5,
        "actor.lr_scheduler": "cosine_with_min_lr",
        "actor.lr_warmup_ratio": 0.1,
        "actor.min_lr_ratio": 0.01,
        "algo.kl.init_coef": 5.0,
        "grpo.final_temperature": 0.9,
        "grpo.max_momentum": 0.99,
        "grpo.max_steps": 200,
        "ckpt.save_steps": 40,
        "rollout.n_samples_per_prompt": 10,
        "rollout.micro_batch_size": 5,
        "rollout.top_p": 0.8,
        "rollout.temperature": 1.3,
        "train.batch_size": 120,
        "train.micro_batch_size": 5,
    },
}
"""The 24-point project's two parameter sets: its report and README, and the defaults in its later code.

One departure in both: KL is estimated by k3, the report's formula, where the code used k1, whose expected gradient as a
loss is zero (``algo.kl.estimator: k1`` restores it). ``data.max_len`` = 1024 new tokens + 256 for the prompt.
"""

_SELF_EXPLORE: dict[str, object] = {
    "run.seed": 42,
    "model.beta": 0.1,
    "train.batch_size": 32,
    "train.max_epochs": 3,
    "lr_scheduler": "linear",
    "lr_warmup_ratio": 0.1,
    "adam.betas": [0.9, 0.999],
    "adam.weight_decay": 0.0,
}
_LENGTHS = {"gsm8k": 384, "math": 1024}
_RATES = {"mistral": 1e-7, "llemma": 1e-6, "deepseek-math": 1e-6}

PRESETS |= {
    f"{suite}-{base}": _SELF_EXPLORE | {"data.max_len": length, "adam.lr": rate}
    for suite, length in _LENGTHS.items()
    for base, rate in _RATES.items()
}
"""Self-Explore's step-level DPO (facts, section 2). The original's optimiser is RMSprop, which OpenRLHF does not offer: AdamW stands in for it.

Its limits of the prompt alone (128 and 512 tokens) are not taken over: the original cut the head of the question there.
"""

_RLLR: dict[str, object] = {
    "run.seed": 42,
    "rllr.weight": 1.0,
    "rllr.kl_target": 6.0,
    "rllr.kl_horizon": 10000.0,
    "algo.kl.init_coef": 0.2,
    "algo.advantage.gamma": 1.0,
    "algo.advantage.lambd": 0.95,
    "actor.eps_clip": 0.2,
    "critic.value_clip": 0.2,
    "rollout.max_new_tokens": 256,
    "rollout.temperature": 1.0,
    "rollout.top_p": 1.0,
    "data.max_len": 1536,
    "train.max_epochs": 1,
    "train.num_episodes": 1,
} | {
    f"{side}.{key}": value
    for side in ("actor", "critic")
    for key, value in {
        "adam.lr": 5e-6,
        "adam.betas": [0.9, 0.999],
        "adam.weight_decay": 0.01,
        "lr_scheduler": "cosine",
        "lr_warmup_ratio": 0.0,
        "max_norm": 1.0,
    }.items()
}
_TAUS = {
    "llama2-7b": 3.9,
    "llama2-13b": 6.2,
    "mistral": 4.4,
    "chatglm3": 3.7,
    "baichuan2-7b": 3.1,
    "bloom7b": 4.4,
    "bloom3b": 1.0,
}

PRESETS |= {
    f"rllr-{model}": _RLLR
    | {"rllr.tau": tau}
    | dict.fromkeys(("rollout.batch_size", "train.batch_size"), 16 if model.startswith("llama2") else 32)
    for model, tau in _TAUS.items()
}
"""RLLR's PPO scripts (facts, section 2). Its rate is of LoRA, which cannot be synced to engines: the whole policy is trained with it here.

tau is on the scale of the reward models of that project: with a model of your own take the suggestion of `openrlhf-ext score`.
"""

PRESET_TASKS: dict[str, dict[str, dict[str, object]]] = {
    "report": {"game24": {"checker": "compatible", "weights": [0.55, 0.3, 0.15], "wrong_expression_reward": 0.35}},
    "head": {"game24": {"checker": "compatible", "weights": [0.15, 0.75, 0.1], "wrong_expression_reward": 0.0}},
}
"""Preset -> task -> the task's keys: the reward rules those runs were made with, their defects included."""
