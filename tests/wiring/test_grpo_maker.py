"""From rewards of whole groups to token advantages, through upstream's batching: order, padding and splits must not matter."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from openrlhf.trainer.ppo_utils.experience import Experience, split_experience_batch

from openrlhf_ext.losses.normalise import RunningNormaliser, group_advantages
from openrlhf_ext.methods.grpo_maker import GrpoExperienceMaker
from tests.wiring import samples

# Three groups of three; every answer has another length.
REWARDS = [1.0, 3.0, 5.0, 4.0, 5.0, 6.0, 1.0, 1.0, 1.0]
LENGTHS = [1, 4, 2, 7, 1, 3, 2, 5, 6]


def rollout() -> list[Experience]:
    return [
        samples.sample([9] * (1 + i % 2), [3] * length, reward)
        for i, (reward, length) in enumerate(zip(REWARDS, LENGTHS, strict=True))
    ]


def maker(micro_batch: int = 2, kl_coefficient: float = 0.0, **changes: object) -> GrpoExperienceMaker:
    args = samples.arguments(rollout__micro_batch_size=micro_batch, **changes)
    strategy, tokenizer = SimpleNamespace(args=args), SimpleNamespace(pad_token_id=0)
    made = GrpoExperienceMaker(None, None, None, None, SimpleNamespace(value=kl_coefficient), strategy, tokenizer)
    made.advantage_eps = 1e-9
    return made


def prepared(made: GrpoExperienceMaker, kl: float = 0.0) -> list[Experience]:
    """Upstream's batches of a rollout, with the per-token KL that its forward phase would add."""
    batches = made.split_rollout_samples(rollout())
    for batch in batches:
        batch.kl = torch.full(batch.action_mask.shape, kl)
    return batches


def per_sample(batches: list[Experience]) -> dict[int, Experience]:
    """Rollout index -> single experience, whatever batch it is in."""
    found = {}
    for batch in batches:
        indices = list(batch.index)
        found |= dict(zip(indices, split_experience_batch(batch), strict=True))
    return found


EXPECTED = [-1.0, 0.0, 1.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0]  # (mean, std) of the groups: (3, 2), (5, 1), (1, 0)


def test_every_generated_token_of_a_sample_carries_its_advantage() -> None:
    made = maker()
    for index, single in per_sample(made.compute_advantages_and_returns(prepared(made))).items():
        answer = single.action_mask.bool()
        assert single.advantages[answer].tolist() == pytest.approx([EXPECTED[index]] * LENGTHS[index])
        assert single.advantages[~answer].abs().sum() == 0.0
        assert single.info["advantage"].item() == pytest.approx(EXPECTED[index])


@pytest.mark.parametrize("micro_batch", [1, 2, 4, 9])
def test_the_split_into_batches_does_not_matter(micro_batch: int) -> None:
    made = maker(micro_batch)
    made.normaliser = RunningNormaliser(max_momentum=0.2, eps=0.0)
    found = per_sample(made.compute_advantages_and_returns(prepared(made)))
    wanted = RunningNormaliser(max_momentum=0.2, eps=0.0).update(torch.tensor(REWARDS).reshape(3, 3)).reshape(-1)
    assert [found[i].info["advantage"].item() for i in range(9)] == pytest.approx(wanted.tolist())
    # mu and sigma after the third group, by hand (tests/unit/losses): 1.76 and 0.22.
    assert (made.normaliser.mean, made.normaliser.std) == pytest.approx((1.76, 0.22))


def test_groups_are_read_by_experience_index_not_by_position() -> None:
    # Balancing over ranks (upstream's dynamic batches) hands samples over in another order.
    made = maker(micro_batch=9)
    plain = per_sample(made.compute_advantages_and_returns(prepared(made)))
    shuffled = []
    for i in (4, 8, 0, 2, 7, 5, 1, 3, 6):
        single = rollout()[i]
        single.index = [i]
        single.kl = torch.zeros(single.action_mask.shape)
        shuffled.append(single)
    found = per_sample(made.compute_advantages_and_returns(shuffled))
    for i in range(9):
        assert found[i].info["advantage"] == plain[i].info["advantage"]
        assert found[i].info["group_reward_std"] == plain[i].info["group_reward_std"]


def test_a_wrong_order_would_show() -> None:
    # The control of the test above: the same numbers cut into groups by position differ.
    order = [4, 8, 0, 2, 7, 5, 1, 3, 6]
    by_position = group_advantages(torch.tensor(REWARDS)[order].reshape(3, 3), 1e-9).reshape(-1)
    by_index = group_advantages(torch.tensor(REWARDS).reshape(3, 3), 1e-9).reshape(-1)[order]
    assert (by_position - by_index).abs().max() > 0.1


def test_padding_does_not_matter() -> None:
    alone, together = maker(micro_batch=1), maker(micro_batch=9)
    one = per_sample(alone.compute_advantages_and_returns(prepared(alone)))
    nine = per_sample(together.compute_advantages_and_returns(prepared(together)))
    for i in range(9):
        width = one[i].advantages.shape[0]
        assert torch.equal(one[i].advantages, nine[i].advantages[:width])
        assert nine[i].advantages[width:].abs().sum() == 0.0


def test_kl_in_the_reward_is_summed_over_the_later_tokens() -> None:
    # 4 generated tokens, KL 0.5 each, coefficient 0.1: the t-th token (from 0) sees A - 0.05 * (4 - t).
    made = maker(micro_batch=9, kl_coefficient=0.1, algo__kl__use_loss=False)
    single = per_sample(made.compute_advantages_and_returns(prepared(made, kl=0.5)))[1]
    assert single.advantages[single.action_mask.bool()].tolist() == pytest.approx([-0.2, -0.15, -0.1, -0.05])


def test_kl_as_a_loss_leaves_the_advantages_alone() -> None:
    made = maker(micro_batch=9, kl_coefficient=0.1)  # upstream's forward phase gives zeros for kl then
    single = per_sample(made.compute_advantages_and_returns(prepared(made, kl=0.0)))[2]
    assert single.advantages[single.action_mask.bool()].tolist() == pytest.approx([1.0, 1.0])


def test_rewards_are_clipped_before_they_are_normalised() -> None:
    made = maker(reward__clip_range=(2.0, 4.0))
    found = per_sample(made.compute_advantages_and_returns(prepared(made)))
    # Group 1: 1, 3, 5 -> 2, 3, 4: std 1; group 3: all 2.
    assert [found[i].info["advantage"].item() for i in (0, 1, 2)] == pytest.approx([-1.0, 0.0, 1.0])
    assert found[0].info["group_reward_std"].item() == pytest.approx(1.0)


def test_integer_rewards_are_rewards() -> None:
    made = maker(micro_batch=9)
    batches = prepared(made)
    batches[0].rewards = batches[0].rewards.long()
    found = per_sample(made.compute_advantages_and_returns(batches))
    assert [found[i].info["advantage"].item() for i in range(3)] == pytest.approx([-1.0, 0.0, 1.0])
