"""OREO's losses as shares: however a step is cut into micro-batches, and wherever the padding is, loss and gradient are the same."""

from __future__ import annotations

import pytest
import torch

from openrlhf_ext.losses.oreo import Objective, policy_share, value_share
from openrlhf_ext.losses.soft_bellman import LEVELS
from openrlhf_ext.losses.vocabulary import sampled_kl

# Four trajectories of 2, 4, 1 and 3 actions; the last has an observation between two turns.
ACTIONS = ["..aa...", ".aaaa..", "...a...", ".aa..a."]
STARTS = ["..s....", ".s.s...", "...s...", ".s...s."]
REWARDS = torch.tensor([1.0, 0.0, 0.0, 1.0])
N = len(ACTIONS)


def mask(rows: list[str]) -> torch.Tensor:
    return torch.tensor([[letter != "." for letter in row] for row in rows])


def example() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values, ratios = torch.randn(2, N, 7, generator=generator, dtype=torch.float64)
    return {"values": values, "ratios": ratios, "is_action": mask(ACTIONS), "starts": mask(STARTS), "rewards": REWARDS}


def losses(
    objective: Objective, x: dict[str, torch.Tensor], rows: slice = slice(None)
) -> tuple[torch.Tensor, torch.Tensor]:
    """(value share, policy share) of some rows."""
    values, ratios = x["values"][rows], x["ratios"][rows]
    rest = (x["rewards"][rows], x["is_action"][rows], x["starts"][rows], N)
    value = value_share(objective, values, ratios, *rest)
    return value, policy_share(objective, values, ratios, sampled_kl(ratios), *rest).loss


@pytest.mark.parametrize("level", LEVELS)
def test_the_shares_of_micro_batches_add_up_in_loss_and_gradient(level: str) -> None:
    objective = Objective(level, beta=0.3, alpha=0.1, turn_ends=True)
    x = example()
    leaves = [x["values"].requires_grad_(), x["ratios"].requires_grad_()]
    whole = losses(objective, x)
    parts = [losses(objective, x, rows) for rows in (slice(0, 1), slice(1, 3), slice(3, 4))]
    for i in range(2):
        summed = sum(part[i] for part in parts)
        torch.testing.assert_close(summed, whole[i])
        want = torch.autograd.grad(whole[i], leaves[i], retain_graph=True)
        torch.testing.assert_close(torch.autograd.grad(summed, leaves[i], retain_graph=True), want)
    alone = losses(objective, x, slice(1, 3))
    mean_of_means = (losses(objective, x, slice(0, 1))[0] + alone[0] + losses(objective, x, slice(3, 4))[0]) / 3
    assert not torch.isclose(mean_of_means, whole[0]), "the control: dividing by micro-batches gives another loss"


@pytest.mark.parametrize("level", LEVELS)
def test_padding_on_either_side_and_what_it_holds_do_not_matter(level: str) -> None:
    objective = Objective(level, beta=0.3, alpha=0.1)
    x = example()
    for side in ((0, 3), (3, 0)):
        padded = {k: v if k == "rewards" else torch.nn.functional.pad(v, side) for k, v in x.items()}
        padded["values"] = padded["values"].masked_fill(~padded["is_action"], float("nan"))
        torch.testing.assert_close(losses(objective, padded), losses(objective, x))


def test_token_level_by_hand() -> None:
    objective = Objective("token", beta=0.5, alpha=0.1)
    x = {
        "values": torch.tensor([[0.2, 0.4]]),
        "ratios": torch.tensor([[0.6, -0.2]]),
        "is_action": torch.tensor([[True, True]]),
        "starts": torch.tensor([[True, False]]),
        "rewards": torch.tensor([1.0]),
    }
    # to go 0.4 and -0.2: residuals 0.2 + 0.2 - 1 and 0.4 - 0.1 - 1
    value = value_share(objective, x["values"], x["ratios"], x["rewards"], x["is_action"], x["starts"], 4)
    assert value.item() == pytest.approx((0.6**2 + 0.7**2) / 2 / 4)
    kl = torch.tensor([[0.3, 0.5]])
    share = policy_share(objective, x["values"], x["ratios"], kl, x["rewards"], x["is_action"], x["starts"], 4)
    assert share.bellman.item() == pytest.approx((0.6**2 + 0.7**2) / 2 / 4)
    assert share.regulariser.item() == pytest.approx(0.1)
    assert share.loss.item() == pytest.approx(share.bellman.item() + 0.01)


def test_turn_ends_train_the_value_after_a_turn_and_not_the_policy() -> None:
    x = example()
    plain, more = (Objective(turn_ends=flag).states(x["is_action"], x["starts"]) for flag in (False, True))
    assert plain.policy.equal(more.policy)
    assert (more.value & ~plain.value).nonzero().tolist() == [[3, 3]]


def test_each_network_learns_from_its_own_loss_alone() -> None:
    x = example()
    values, ratios = x["values"].requires_grad_(), x["ratios"].requires_grad_()
    value, policy = losses(Objective(), x)
    assert torch.autograd.grad(value, ratios, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(policy, values, allow_unused=True) == (None,)
