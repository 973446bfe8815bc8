"""The two published parameter sets, literally."""

from __future__ import annotations

import pytest

from openrlhf_ext.config.check import check, errors
from openrlhf_ext.config.load import load

SHARED = {
    "rollout.batch_size": 12,
    "rollout.max_new_tokens": 1024,
    "data.max_len": 1280,
    "actor.eps_clip": 0.2,
    "actor.max_norm": 0.0,
    "actor.adam.betas": [0.9, 0.999],
    "actor.adam.weight_decay": 0.01,
    "actor.loss_agg_mode": "seq-mean-token-mean",
    "algo.advantage.estimator": "group_norm",
    "algo.kl.use_loss": True,
    "algo.kl.estimator": "k3",
    "train.max_epochs": 1,
    "train.num_episodes": 10,
    "grpo.advantage_eps": 1e-4,
    "run.seed": 42,
    "task.checker": "compatible",
}
REPORT = SHARED | {
    "actor.adam.lr": 2e-6,
    "actor.lr_scheduler": "constant",
    "algo.kl.init_coef": 0.01,
    "grpo.max_momentum": 0.2,
    "grpo.max_steps": 50,
    "grpo.final_temperature": None,
    "rollout.n_samples_per_prompt": 8,
    "rollout.top_p": 0.9,
    "rollout.temperature": 0.7,
    "train.batch_size": 96,
    "train.micro_batch_size": 4,
    "ckpt.save_steps": 10,
    "task.weights": [0.55, 0.3, 0.15],
    "task.wrong_expression_reward": 0.35,
}
HEAD = SHARED | {
    "actor.adam.lr": 1e-5,
    "actor.lr_scheduler": "cosine_with_min_lr",
    "actor.lr_warmup_ratio": 0.1,
    "actor.min_lr_ratio": 0.01,  # floor 1e-7
    "algo.kl.init_coef": 5.0,
    "grpo.max_momentum": 0.99,
    "grpo.max_steps": 200,
    "grpo.final_temperature": 0.9,
    "rollout.n_samples_per_prompt": 10,
    "rollout.top_p": 0.8,
    "rollout.temperature": 1.3,
    "train.batch_size": 120,
    "train.micro_batch_size": 5,
    "ckpt.save_steps": 40,
    "task.weights": [0.15, 0.75, 0.1],
    "task.wrong_expression_reward": 0.0,
}


@pytest.mark.parametrize(("preset", "expected"), [("report", REPORT), ("head", HEAD)])
def test_presets_hold_the_published_numbers(preset, expected):
    settings = [("task.name", "game24"), ("actor.model_name_or_path", "m"), ("data.prompt_dataset", "d.jsonl")]
    resolved = load("grpo", None, [*settings, ("grpo.preset", preset)])
    assert {key: resolved.get(key) for key in expected} == expected
    assert errors(check(resolved)) == []


def test_a_preset_leaves_other_tasks_their_options():
    assert load("grpo", None, [("task.name", "chain"), ("grpo.preset", "report")]).task == {"name": "chain"}


def test_reward_weights_can_be_changed_under_a_preset():
    resolved = load("grpo", None, [("task.name", "game24"), ("grpo.preset", "report"), ("task.checker", "strict")])
    assert resolved.task["checker"] == "strict"
    assert resolved.task["wrong_expression_reward"] == 0.35
