"""Two DeepSpeed ranks over gloo train as one rank does: same loss, same gradients, on one batch of unequal lengths.

Four layouts of the same eight samples: one and two ranks, one and two micro-batches per update. Adam's epsilon is 1, so that an update is
nearly proportional to the gradient and a wrong scale cannot hide behind its normalisation. Cost: about 40 s on 2 idle cores.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.ranks import group_of, session

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

ANSWERS = [[2, 3], [4, 5, 6, 7, 8, 9, 2, 3], [5], [9, 9, 2], [3, 4, 5, 6, 7], [8, 2, 2, 2, 4, 4], [6, 1], [7, 7, 7, 3]]
ADVANTAGES = [1.0, -1.0, 0.5, 2.0, -0.25, -2.0, 0.75, -1.5]
PROMPT = [3, 4, 5]
# name: ranks, micro-batch; always 8 samples per update.
LAYOUTS = {
    "one rank": (1, 8),
    "one rank, two micro-batches": (1, 4),
    "two ranks": (2, 4),
    "two ranks, two micro-batches": (2, 2),
}


class Rank:
    """Builds policies like those of a run, one after the other, in one process per rank."""

    def __init__(self, world_size: int, rank: int, address: str | None, port: int | None) -> None:
        from openrlhf_ext.workers import PolicyWorker

        self.policy = PolicyWorker(world_size, rank, address, port)

    def address(self) -> tuple[str, int]:
        return self.policy.get_master_addr_port()

    def train(self, argv: list[str], model: str, samples: list[tuple[list[int], float]]) -> dict:
        """One update on ``samples`` (answer, advantage); the status of the update and all parameters after it."""
        import torch
        from openrlhf.utils import get_strategy

        from openrlhf_ext.upstream import cli

        policy = self.policy
        torch.manual_seed(0)
        args = cli.parse("ppo", argv)
        policy.init_model_from_pretrained(get_strategy(args), model, 10, None)
        for experience in map(self.experience, samples):
            policy.append(experience)
        status = policy.fit(kl_ctl=args.algo.kl.init_coef)
        return {
            "status": {key: float(status[key]) for key in ("policy_loss", "kl", "actor_grad_norm")},
            "parameters": {name: p.detach().clone() for name, p in policy.actor.model.module.named_parameters()},
        }

    def experience(self, sample: tuple[list[int], float]) -> object:
        """With log-probs of a policy and a reference that are not this one, so that ratio and KL are not trivial."""
        import torch
        from openrlhf.trainer.ppo_utils.experience import Experience

        answer, advantage = sample
        tokens = torch.tensor([PROMPT + answer])
        mask = torch.tensor([[0] * (len(PROMPT) - 1) + [1] * len(answer)])
        with torch.no_grad():
            policy = self.policy.actor(tokens, mask, torch.ones_like(tokens))
        wave = torch.linspace(-0.1, 0.1, mask.shape[1]) * mask
        return Experience(
            sequences=tokens,
            attention_mask=torch.ones_like(tokens),
            action_mask=mask,
            action_log_probs=policy + wave,
            base_action_log_probs=policy - 3 * wave,
            advantages=advantage * mask.float(),
            returns=advantage * mask.float(),
            total_length=torch.tensor([float(tokens.numel())]),
            response_length=torch.tensor([float(len(answer))]),
            truncated=torch.tensor([False]),
            info={"reward": torch.tensor([0.0])},
        )


def arguments(model: str, ranks: int, micro_batch: int) -> list[str]:
    return [
        *("--actor.model_name_or_path", model, "--reward.remote_url", "reward.py"),
        *("--actor.num_nodes", "1", "--actor.num_gpus_per_node", str(ranks), "--vllm.num_engines", "1"),
        *("--vllm.sync_backend", "gloo", "--ds.attn_implementation", "sdpa", "--ds.param_dtype", "float32"),
        *(
            "--algo.advantage.estimator",
            "group_norm",
            "--rollout.n_samples_per_prompt",
            "8",
            "--rollout.batch_size",
            "1",
        ),
        *("--rollout.micro_batch_size", "4", "--train.batch_size", "8", "--train.micro_batch_size", str(micro_batch)),
        *(
            "--actor.adam.lr",
            "1e-1",
            "--actor.adam.eps",
            "1",
            "--actor.adam.weight_decay",
            "0",
            "--actor.max_norm",
            "0",
        ),
        *(
            "--actor.lr_scheduler",
            "constant",
            "--actor.lr_warmup_ratio",
            "0",
            "--actor.loss_agg_mode",
            "seq-mean-token-mean",
        ),
        *("--algo.kl.use_loss", "--algo.kl.estimator", "k3", "--algo.kl.init_coef", "0.3"),
    ]


@pytest.fixture(scope="module")
def updates(toy) -> dict[str, dict]:
    """Layout -> what one update did."""
    with session(__name__):
        return {**train_group(1, toy.model), **train_group(2, toy.model)}


def train_group(ranks: int, model: Path) -> dict[str, dict]:
    import ray

    group = group_of(Rank, ranks)
    samples = list(zip(ANSWERS, ADVANTAGES, strict=True))
    done = {}
    for name, (count, micro_batch) in LAYOUTS.items():
        if count == ranks:
            argv = arguments(str(model), ranks, micro_batch)
            parts = [samples[r * 8 // ranks : (r + 1) * 8 // ranks] for r in range(ranks)]
            answers = [actor.train.remote(argv, str(model), part) for actor, part in zip(group, parts, strict=True)]
            done[name] = ray.get(answers, timeout=600)[0]
    return done


def largest_difference(one: dict, other: dict) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "one rank"])
def test_every_layout_makes_the_update_of_one_rank(updates: dict[str, dict], layout: str) -> None:
    one, other = updates["one rank"], updates[layout]
    assert largest_difference(one["parameters"], other["parameters"]) < 1e-6
    assert other["status"]["actor_grad_norm"] == pytest.approx(one["status"]["actor_grad_norm"], rel=1e-4)


def test_the_update_is_large_enough_to_tell_layouts_apart(updates: dict[str, dict], toy) -> None:
    from safetensors.torch import load_file

    before = load_file(toy.model / "model.safetensors")
    after = {name: value for name, value in updates["one rank"]["parameters"].items() if name in before}
    assert len(after) == len(before)
    assert largest_difference(before, after) > 1e-3
