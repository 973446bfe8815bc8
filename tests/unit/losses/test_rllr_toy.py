"""What each reward of RLLR does, where everything can be counted: reward models of two features, and a policy that is a table.

A label-sensitive pair differs in whether the label is right, a rationale-sensitive pair in the quality of the prose alone. The reward model of
the latter is blind to labels, and so is a policy that it pays.
"""

from __future__ import annotations

import random

import pytest
import torch

from openrlhf_ext.evaluate.reward_diagnostics import diagnose
from openrlhf_ext.losses.rllr import Combination, RunningMoments
from openrlhf_ext.losses.whiten import whiten

INPUTS, LABELS, QUALITIES = 40, 3, 2
BATCH = 512
GOLD = torch.arange(INPUTS) % LABELS
RIGHT = torch.stack([torch.arange(LABELS * QUALITIES) // QUALITIES == gold for gold in GOLD]).float()
"""[inputs, answers]: an answer is a label and a quality."""
GOOD = (torch.arange(LABELS * QUALITIES) % QUALITIES).float().expand(INPUTS, -1)

Answer = tuple[float, float]
"""(label is right, prose is good), 0 or 1 each."""


def label_pairs(count: int, chance: random.Random) -> list[tuple[Answer, Answer]]:
    return [((1.0, float(chance.random() < 0.5)), (0.0, float(chance.random() < 0.5))) for _ in range(count)]


def rationale_pairs(count: int, chance: random.Random) -> list[tuple[Answer, Answer]]:
    rights = [float(chance.random() < 0.5) for _ in range(count)]
    return [((right, 1.0), (right, 0.0)) for right in rights]


def fitted(pairs: list[tuple[Answer, Answer]]) -> torch.Tensor:
    """Weights of the two features after 200 steps of Bradley-Terry."""
    chosen, rejected = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
    weights = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.softplus(-(chosen - rejected) @ weights).mean().backward()
        optimizer.step()
    return weights.detach()


def accuracy(weights: torch.Tensor, pairs: list[tuple[Answer, Answer]]) -> float:
    chosen, rejected = ((torch.tensor([pair[side] for pair in pairs]) @ weights).tolist() for side in (0, 1))
    return diagnose(chosen, rejected).scale.accuracy


def test_the_ladder_of_reward_models() -> None:
    """Label model far above quality model on held-out label pairs; the other way round on rationale pairs."""
    chance = random.Random(0)
    label, quality = fitted(label_pairs(400, chance)), fitted(rationale_pairs(400, chance))
    held_out, prose = label_pairs(600, chance), rationale_pairs(600, chance)
    assert label[0] > 3 and abs(label[1]) < 0.5
    assert quality[0] == 0 and quality[1] > 3, "nothing in its pairs tells labels apart"
    assert accuracy(label, held_out) == 1.0
    assert 0.4 < accuracy(quality, held_out) < 0.6
    assert accuracy(quality, prose) == 1.0


def trained(arm: str, seed: int) -> tuple[float, float]:
    """(label accuracy, quality) of a table of logits that starts at .60 and .50, after 150 batches of policy gradient."""
    noise = torch.Generator().manual_seed(seed)
    start = torch.where(RIGHT == 1, 0.6, 0.2).log() - torch.tensor(2.0).log()
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.05)
    combine = Combination(tau=2.0 if arm == "mixed" else None)
    moments = RunningMoments()
    for _ in range(150):
        inputs = torch.randint(INPUTS, (BATCH,), generator=noise)
        answers = torch.multinomial(logits.detach().softmax(-1)[inputs], 1, generator=noise)[:, 0]
        label = 5 * RIGHT[inputs, answers] - 2.5 + 0.3 * torch.randn(BATCH, generator=noise)
        quality = 2 * GOOD[inputs, answers] - 1 + 0.3 * torch.randn(BATCH, generator=noise)
        rewards = combine(label if arm != "rationale" else None, quality if arm != "label" else None)
        moments.update(rewards)
        (advantages,) = whiten([moments.normalise(rewards)[:, None]], [torch.ones(BATCH, 1, dtype=torch.bool)])
        chosen = logits.log_softmax(-1)[inputs, answers]
        optimizer.zero_grad()
        (-(advantages[:, 0] * chosen).mean()).backward()
        optimizer.step()
    found = logits.detach().softmax(-1)
    return (found * RIGHT).sum(-1).mean().item(), (found * GOOD).sum(-1).mean().item()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_reward_moves_what_it_pays_for(seed: int) -> None:
    """The order of the paper: RLLR's accuracy far above RLHF's, RLHF's rationales above RLLR's, the mixed arm at least as good as both."""
    found = {arm: trained(arm, seed) for arm in ("rationale", "label", "mixed")}
    (rlhf, prose), (rllr, drift), (mixed, both) = found["rationale"], found["label"], found["mixed"]
    assert rllr > 0.95 and rllr > rlhf + 0.15, found
    assert prose > 0.95 and prose > drift + 0.1, found
    assert mixed > rllr - 0.03 and both > prose - 0.03, found
    assert rlhf < 0.8, "the control: a reward that is blind to labels leaves them to chance"
