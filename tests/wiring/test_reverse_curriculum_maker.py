"""Outcome, KL and critic to token advantages: by hand, against a loop, and with a gold prefix that must not matter."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_ext.methods.reverse_curriculum_maker import ReverseCurriculumExperienceMaker
from tests.wiring import samples

LENGTHS = [3, 1, 5, 2]
PROMPTS = [2, 6, 1, 4]  # a prompt of six tokens holds a gold prefix
REWARDS = [1.0, 0.2, 0.0, 1.0]


def maker(
    micro_batch: int = 4, beta: float = 0.05, lambd: float = 0.95, whiten: bool = False
) -> ReverseCurriculumExperienceMaker:
    args = samples.arguments(
        rollout__micro_batch_size=micro_batch,
        rollout__n_samples_per_prompt=1,
        algo__advantage__estimator="gae",
        algo__advantage__gamma=1.0,
        algo__advantage__lambd=lambd,
        algo__kl__use_loss=False,
    )
    strategy, tokenizer = SimpleNamespace(args=args), SimpleNamespace(pad_token_id=0)
    made = ReverseCurriculumExperienceMaker(None, None, None, None, SimpleNamespace(value=beta), strategy, tokenizer)
    made.whiten_advantages = whiten
    return made


def batches(made: ReverseCurriculumExperienceMaker, off_action: float = 0.0) -> list[Experience]:
    """Upstream's batches with values and KL of the actions drawn once; ``off_action`` stands wherever there is no action."""
    generator = torch.Generator().manual_seed(7)
    rollout = []
    for prompt, length, reward in zip(PROMPTS, LENGTHS, REWARDS, strict=True):
        values, kl = torch.rand(length, generator=generator).tolist(), torch.rand(length, generator=generator).tolist()
        before = [off_action] * (prompt - 1)
        rollout.append(samples.sample([9] * prompt, [3] * length, reward, values=before + values, kl=before + kl))
    joined = made.split_rollout_samples(rollout)
    for batch in joined:
        mask = batch.action_mask.bool()
        batch.values = torch.where(mask, batch.values, off_action)
        batch.kl = torch.where(mask, batch.kl, off_action)
    return joined


def actions(found: list[Experience], field: str) -> dict[int, list[float]]:
    """Rollout index -> the field at the generated tokens."""
    rows = {}
    for batch in found:
        for row, index in enumerate(batch.index):
            rows[index] = getattr(batch, field)[row][batch.action_mask[row].bool()].tolist()
    return rows


def test_three_tokens_by_hand() -> None:
    # beta 0.1, KL 1, 2, 3, outcome 1: rewards -0.1, -0.2, 0.7. Values 0.5, 0.4, 0.2, lambda 0.5:
    # delta = -0.2, -0.4, 0.5; A_3 = 0.5, A_2 = -0.4 + 0.25 = -0.15, A_1 = -0.2 - 0.075 = -0.275; returns A + V.
    made = maker(beta=0.1, lambd=0.5)
    single = samples.sample([9, 9], [3, 3, 3], 1.0, values=[8.0, 0.5, 0.4, 0.2], kl=[8.0, 1.0, 2.0, 3.0])
    single.index = [0]
    (found,) = made.compute_advantages_and_returns([single])
    assert found.advantages[0].tolist() == pytest.approx([0.0, -0.275, -0.15, 0.5])
    assert found.returns[0].tolist() == pytest.approx([0.0, 0.225, 0.25, 0.7])
    assert found.info["return"].item() == pytest.approx(1 - 0.1 * 6)


def naive(values: list[float], kl: list[float], outcome: float, beta: float, lambd: float) -> list[float]:
    """GAE with gamma 1 as its sum: A_t = sum_l lambda**l delta_{t+l}."""
    n = len(values)
    rewards = [-beta * k + (outcome if t == n - 1 else 0.0) for t, k in enumerate(kl)]
    after = [*values[1:], 0.0]
    delta = [r + v_next - v for r, v, v_next in zip(rewards, values, after, strict=True)]
    return [sum(lambd ** (u - t) * delta[u] for u in range(t, n)) for t in range(n)]


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_against_a_loop_in_any_batches(micro_batch: int) -> None:
    made = maker(micro_batch)
    given = batches(made)
    values, kl = actions(given, "values"), actions(given, "kl")
    found = actions(made.compute_advantages_and_returns(given), "advantages")
    for i, outcome in enumerate(REWARDS):
        assert found[i] == pytest.approx(naive(values[i], kl[i], outcome, 0.05, 0.95), abs=1e-6)


def test_rewards_of_a_sample_sum_to_the_outcome_less_its_kl() -> None:
    made = maker()
    given = batches(made, off_action=3.0)
    kl = actions(given, "kl")
    (batch,) = made.compute_advantages_and_returns(given)
    wanted = {i: REWARDS[i] - 0.05 * sum(kl[i]) for i in range(4)}
    assert dict(zip(batch.index, batch.info["return"].tolist(), strict=True)) == pytest.approx(wanted)


@pytest.mark.parametrize("whiten", [False, True])
def test_the_gold_prefix_does_not_matter(whiten: bool) -> None:
    """Any value and KL at the tokens of the prompt, its gold prefix included, or at padding: the same numbers everywhere."""
    one, other = maker(whiten=whiten), maker(whiten=whiten)
    plain = one.compute_advantages_and_returns(batches(one))
    changed = other.compute_advantages_and_returns(batches(other, off_action=1e6))
    for a, b in zip(plain, changed, strict=True):
        for field in ("advantages", "returns"):
            assert torch.equal(getattr(a, field), getattr(b, field))
            assert getattr(a, field)[~a.action_mask.bool()].abs().sum() == 0.0
        assert torch.equal(a.info["return"], b.info["return"])


def test_an_action_does_matter() -> None:
    # The control: one value changed at the last generated token changes every advantage of its sample and no other.
    made = maker(micro_batch=1)
    before = actions(made.compute_advantages_and_returns(batches(made)), "advantages")
    again = batches(made)
    again[0].values[0, -1] += 1.0
    after = actions(made.compute_advantages_and_returns(again), "advantages")
    assert min(abs(x - y) for x, y in zip(before[0], after[0], strict=True)) > 0.01
    assert {i: before[i] for i in (1, 2, 3)} == {i: after[i] for i in (1, 2, 3)}


def test_whitening_is_over_all_tokens_of_all_batches() -> None:
    for micro_batch in (1, 4):
        made = maker(micro_batch, whiten=True)
        tokens = torch.tensor(
            [
                a
                for row in actions(made.compute_advantages_and_returns(batches(made)), "advantages").values()
                for a in row
            ]
        )
        assert len(tokens) == sum(LENGTHS)
        assert tokens.mean().item() == pytest.approx(0.0, abs=1e-6)
        assert tokens.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)
