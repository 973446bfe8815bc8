"""The loss that GRPO trains on is upstream's; here it is compared with the 24-point report's formula, summed token by token.

    L = 1/N sum_i 1/|o_i| sum_t [ -min(rho A_i, clip(rho, 1 - eps, 1 + eps) A_i) + beta KL_t ]

The policy is a table of logits (next token given this token), so everything can be written out.
"""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from openrlhf.models import PolicyLoss
from openrlhf.models.utils import compute_approx_kl
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.replay_buffer import NaiveReplayBuffer
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer
from torch import nn

from openrlhf_ext.workers import reduce_all_terms_alike
from tests.wiring import samples

VOCABULARY, EPS = 5, 0.2
PROMPT = [1]
ANSWERS = [[2], [3, 4, 0, 2, 1], [4, 2], [2, 2, 3], [0, 1, 1, 3], [4], [3, 3, 0, 0, 1, 2], [2, 0]]
ADVANTAGES = [1.0, -1.0, 0.5, 2.0, -0.25, -2.0, 0.75, -1.5]


def table(seed: int) -> torch.Tensor:
    return torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(seed))


class TablePolicy(nn.Module):
    """Logits of the next token are the row of this token. Answers like upstream's Actor."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def log_probs(self, sequences: torch.Tensor) -> torch.Tensor:
        rows = self.logits.log_softmax(-1)[sequences[:, :-1]]
        return rows.gather(-1, sequences[:, 1:, None]).squeeze(-1)

    def forward(self, sequences, action_mask, *, attention_mask, return_output, **_unused) -> tuple:
        return self.log_probs(sequences) * action_mask, SimpleNamespace()


class Strategy:
    """One rank of DeepSpeed: gradients of ``accumulation`` micro-batches, each divided by their number, then a step."""

    ring_attn_group = None

    def __init__(self, args: SimpleNamespace, accumulation: int) -> None:
        self.args, self.accumulated_gradient, self.steps = args, accumulation, 0

    def backward(self, loss: torch.Tensor, model: nn.Module, _optimizer: object) -> None:
        (loss / self.accumulated_gradient).backward()

    def optimizer_step(self, *_unused: object, name: str) -> None:
        self.steps += 1

    def get_grad_norm(self, model: nn.Module) -> float:
        return 0.0

    def all_reduce(self, data: dict) -> dict:
        return data

    def is_rank_0(self) -> bool:
        return False


def experiences(policy: TablePolicy, old: torch.Tensor, reference: torch.Tensor) -> list[Experience]:
    """The rollout with log-probs under the policy that sampled it (``old``) and under the reference."""
    made = []
    for i, (answer, advantage) in enumerate(zip(ANSWERS, ADVANTAGES, strict=True)):
        prompt = PROMPT * (1 + i % 3)
        tokens = torch.tensor([prompt + answer])
        mask = [0] * (len(prompt) - 1) + [1] * len(answer)
        values = {
            "action_log_probs": TablePolicy(old).log_probs(tokens).detach() * torch.tensor([mask]),
            "base_action_log_probs": TablePolicy(reference).log_probs(tokens).detach() * torch.tensor([mask]),
            "advantages": torch.tensor([[advantage * m for m in mask]]),
        }
        single = samples.sample(prompt, answer, 0.0)
        for name, value in values.items():
            setattr(single, name, value)
        made.append(single)
    return made


def actor_trainer(policy: TablePolicy, micro_batch: int, mode: str, beta: float, estimator: str) -> ActorPPOTrainer:
    """Upstream's trainer with everything that its constructor takes from Ray and DeepSpeed played."""
    args = samples.arguments(algo__kl__init_coef=beta, algo__kl__estimator=estimator, actor__loss_agg_mode=mode)
    trainer = object.__new__(ActorPPOTrainer)
    vars(trainer).update(
        strategy=Strategy(args, accumulation=len(ANSWERS) // micro_batch),
        args=args,
        actor=policy,
        actor_optim=None,
        actor_scheduler=SimpleNamespace(get_last_lr=lambda: [1e-3]),
        ema_model=None,
        aux_loss=False,
        max_epochs=1,
        dataloader_pin_memory=False,
        replay_buffer=NaiveReplayBuffer(micro_batch),
        actor_loss_fn=PolicyLoss(EPS, EPS, token_level_loss=mode == "token-mean"),
    )
    reduce_all_terms_alike(mode)
    return trainer


def gradient(
    new: torch.Tensor,
    old: torch.Tensor,
    reference: torch.Tensor,
    *,
    micro_batch: int = 8,
    beta: float = 0.3,
    mode: str = "seq-mean-token-mean",
    estimator: str = "k3",
) -> torch.Tensor:
    """Accumulated gradient of the logit table after one pass of upstream's trainer over the rollout."""
    policy = TablePolicy(new)
    trainer = actor_trainer(policy, micro_batch, mode, beta, estimator)
    for single in experiences(policy, old, reference):
        trainer.replay_buffer.append(single)
    trainer.ppo_train(beta)
    assert trainer.strategy.steps == len(ANSWERS) // micro_batch
    return policy.logits.grad


def naive_gradient(
    new: torch.Tensor, old: torch.Tensor, reference: torch.Tensor, beta: float, mode: str, estimator: str
) -> torch.Tensor:
    """The report's formula token by token in float64 (``token-mean``: one mean over all tokens)."""
    logits = new.double().requires_grad_(True)
    terms = []
    for i, (answer, advantage) in enumerate(zip(ANSWERS, ADVANTAGES, strict=True)):
        tokens = PROMPT * (1 + i % 3) + answer
        row = []
        for this, following in list(pairwise(tokens))[-len(answer) :]:
            log_new = logits[this].log_softmax(-1)[following]
            log_old = old.double()[this].log_softmax(-1)[following]
            log_ref = reference.double()[this].log_softmax(-1)[following]
            ratio = (log_new - log_old).exp()
            clipped = ratio.clamp(1 - EPS, 1 + EPS)
            kl = {"k1": log_new - log_ref, "k3": (log_ref - log_new).exp() - 1 - (log_ref - log_new)}[estimator]
            row.append(-torch.min(ratio * advantage, clipped * advantage) + beta * kl)
        terms.append(row)
    if mode == "token-mean":
        loss = sum(sum(row) for row in terms) / sum(len(row) for row in terms)
    else:
        loss = sum(sum(row) / len(row) for row in terms) / len(terms)
    loss.backward()
    return logits.grad.float()


NEW, OLD, REFERENCE = table(0), table(0) + 0.3 * table(1), table(2)


@pytest.mark.parametrize("mode", ["seq-mean-token-mean", "token-mean"])
@pytest.mark.parametrize("estimator", ["k1", "k3"])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_the_gradient_is_that_of_the_formula(mode: str, estimator: str, beta: float) -> None:
    wanted = naive_gradient(NEW, OLD, REFERENCE, beta, mode, estimator)
    got = gradient(NEW, OLD, REFERENCE, beta=beta, mode=mode, estimator=estimator)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)


def test_the_two_ways_to_average_differ_so_the_comparison_can_fail() -> None:
    by_sequence, by_token = (
        naive_gradient(NEW, OLD, REFERENCE, 0.3, mode, "k3") for mode in ("seq-mean-token-mean", "token-mean")
    )
    assert (by_sequence - by_token).abs().max() > 0.01


def test_kl_is_averaged_like_the_policy_loss() -> None:
    # With no advantages only KL is left; upstream alone averages it over tokens even in sequence mode.
    wanted = naive_gradient(NEW, OLD, REFERENCE, 1.0, "seq-mean-token-mean", "k3") - naive_gradient(
        NEW, OLD, REFERENCE, 0.0, "seq-mean-token-mean", "k3"
    )
    got = gradient(NEW, OLD, REFERENCE, beta=1.0) - gradient(NEW, OLD, REFERENCE, beta=0.0)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)
    assert got.abs().max() > 0.01


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
@pytest.mark.parametrize("mode", ["seq-mean-token-mean", "token-mean"])
def test_the_size_of_the_micro_batches_does_not_matter(micro_batch: int, mode: str) -> None:
    torch.manual_seed(3)  # upstream shuffles: other samples meet in a micro-batch, the sum stays
    whole = gradient(NEW, OLD, REFERENCE, mode=mode)
    torch.testing.assert_close(
        gradient(NEW, OLD, REFERENCE, micro_batch=micro_batch, mode=mode), whole, atol=1e-6, rtol=1e-4
    )


def test_at_ratio_one_the_gradient_is_the_policy_gradient() -> None:
    # old = new: clipping is inactive and grad = -1/N sum_i A_i/|o_i| sum_t grad log pi.
    logits = NEW.double().requires_grad_(True)
    loss = 0.0
    for i, (answer, advantage) in enumerate(zip(ANSWERS, ADVANTAGES, strict=True)):
        tokens = PROMPT * (1 + i % 3) + answer
        pairs = list(pairwise(tokens))[-len(answer) :]
        loss = loss - advantage * sum(logits[a].log_softmax(-1)[b] for a, b in pairs) / len(answer) / len(ANSWERS)
    loss.backward()
    torch.testing.assert_close(gradient(NEW, NEW, REFERENCE, beta=0.0), logits.grad.float(), atol=1e-6, rtol=1e-4)


def test_clipping_stops_the_gradient_of_a_sample_that_has_moved_far_enough() -> None:
    policy, loss = TablePolicy(table(0)), PolicyLoss(EPS, EPS, token_level_loss=False)
    new = policy.log_probs(torch.tensor([[1, 2]]))
    for shift, advantage, moves in [(0.5, 1.0, False), (0.5, -1.0, True), (-0.5, 1.0, True), (-0.5, -1.0, False)]:
        value, clipped, *_ = loss(new, new.detach() - shift, torch.tensor([[advantage]]), action_mask=torch.ones(1, 1))
        (slope,) = torch.autograd.grad(value, policy.logits, retain_graph=True)
        assert bool(slope.abs().max() > 0) is moves
        assert clipped.item() == float(not moves)


def test_policy_loss_by_hand() -> None:
    # pi = (3/4, 1/4), old (1/2, 1/2): ratios 1.5 and 0.5; eps .2. Sequence 1: tokens 0, 1 with A = 1; sequence 2: token 0, A = -2.
    # min(1.5, 1.2) = 1.2, min(.5, .8) = .5 -> -(1.7)/2 = -.85; min(-3, -2.4) = -3 -> 3; mean (3 - .85) / 2.
    new = torch.tensor([[0.75, 0.25], [0.75, 1.0]]).log()
    old = torch.tensor([[0.5, 0.5], [0.5, 1.0]]).log()
    advantages, mask = torch.tensor([[1.0, 1.0], [-2.0, 0.0]]), torch.tensor([[1, 1], [1, 0]])
    by_sequence, clip_ratio, *_ = PolicyLoss(EPS, EPS, token_level_loss=False)(new, old, advantages, action_mask=mask)
    by_token, *_ = PolicyLoss(EPS, EPS, token_level_loss=True)(new, old, advantages, action_mask=mask)
    assert by_sequence.item() == pytest.approx((3 - 0.85) / 2)
    assert by_token.item() == pytest.approx((3 - 1.7) / 3)
    assert clip_ratio.item() == pytest.approx(1 / 3)


def test_kl_estimators_by_hand() -> None:
    new, reference = torch.tensor([0.5, 0.25]).log(), torch.tensor([0.25, 0.5]).log()
    k1, k3 = (compute_approx_kl(new, reference, kl_estimator=name).tolist() for name in ("k1", "k3"))
    assert k1 == pytest.approx([math.log(2), -math.log(2)])
    assert k3 == pytest.approx([0.5 - 1 + math.log(2), 2 - 1 - math.log(2)])


def test_k1_as_a_loss_pulls_nowhere_and_k3_pulls_to_the_reference() -> None:
    # Exact expectation over the next token: why the default is k3 (methods/grpo.py).
    def expected(estimator: str) -> torch.Tensor:
        logits = NEW[0].clone().requires_grad_(True)
        log_new, log_ref = logits.log_softmax(-1), REFERENCE[0].log_softmax(-1)
        (log_new.exp().detach() * compute_approx_kl(log_new, log_ref, kl_estimator=estimator)).sum().backward()
        return logits.grad

    assert expected("k1").abs().max() < 1e-6
    # d/dlogits KL(reference || policy) = policy - reference.
    torch.testing.assert_close(expected("k3"), NEW[0].softmax(-1) - REFERENCE[0].softmax(-1), atol=1e-5, rtol=1e-4)
