"""Hand-made single-sample experiences, as a rollout makes them."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from openrlhf.trainer.ppo_utils.experience import Experience


def sample(prompt: list[int], answer: list[int], reward: float, **tensors: list[float]) -> Experience:
    """``tensors`` are per-token fields over all A = T - 1 positions (zeros where not given)."""
    tokens = prompt + answer
    mask = [0] * (len(prompt) - 1) + [1] * len(answer)
    fields = {name: torch.tensor([values]) for name, values in tensors.items()}
    return Experience(
        sequences=torch.tensor([tokens]),
        attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
        action_mask=torch.tensor([mask]),
        rewards=torch.tensor([reward]),
        scores=torch.tensor([float(reward > 0.5)]),
        response_length=torch.tensor([len(answer)]),
        truncated=torch.tensor([False]),
        total_length=torch.tensor([float(len(tokens))]),
        prompts=[str(prompt)],
        labels=["{}"],
        images=[None],
        mm_train_inputs=[None],
        info={"reward": torch.tensor([reward])},
        **fields,
    )


def arguments(**changes: object) -> SimpleNamespace:
    """The parts of upstream's arguments that an experience maker and an actor trainer read."""
    flat = {
        "algo.advantage.estimator": "group_norm",
        "algo.kl.use_loss": True,
        "algo.kl.init_coef": 0.0,
        "algo.kl.estimator": "k3",
        "algo.kl.unbiased_gradient": False,
        "actor.entropy_coef": None,
        "actor.num_nodes": 1,
        "actor.num_gpus_per_node": 1,
        "actor.loss_agg_mode": "seq-mean-token-mean",
        "ds.ring_attn_size": 1,
        "ds.tensor_parallel_size": 1,
        "reward.clip_range": (-10.0, 10.0),
        "reward.overlong_buffer_len": None,
        "reward.overlong_penalty_factor": 1.0,
        "reward.stop_properly_penalty_coef": None,
        "rollout.micro_batch_size": 2,
        "rollout.n_samples_per_prompt": 3,
        "rollout.max_new_tokens": 8,
        "train.dynamic_batch_enable": False,
        "train.max_epochs": 1,
    } | {key.replace("__", "."): value for key, value in changes.items()}
    root = SimpleNamespace()
    for key, value in flat.items():
        *path, leaf = key.split(".")
        node = root
        for part in path:
            if not hasattr(node, part):
                setattr(node, part, SimpleNamespace())
            node = getattr(node, part)
        setattr(node, leaf, value)
    return root
