"""The losses reach the closed-form optimum on finite trees, and losses that are subtly wrong do not."""

import math
from dataclasses import astuple

import pytest
import torch

from openrlhf_ext.losses import soft_bellman
from openrlhf_ext.losses.soft_bellman import LEVELS
from openrlhf_ext.losses.soft_optimum import Tree, fit, optimum, random_tree, success

BETA = 0.3
AIM = 1e-3


@pytest.fixture(scope="module")
def tree() -> Tree:
    return random_tree(seed=0, horizon=4, branching=3)


def test_a_tree_of_two_decisions_by_hand() -> None:
    # Fair reference, rewards 0 0 0 1, beta 1: V(left) = 0, V(right) = log((1 + e) / 2), V(root) = log((1 + (1 + e) / 2) / 2).
    fair = torch.full((3, 2), math.log(0.5), dtype=torch.float64)
    paths, nodes = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), torch.tensor([[0, 1], [0, 1], [0, 2], [0, 2]])
    rewards = torch.tensor([0, 0, 0, 1]).double()
    best = optimum(Tree(2, 2, fair, rewards, paths, nodes), beta=1.0)
    right = math.log((1 + math.e) / 2)
    assert best.values.tolist() == pytest.approx([math.log((1 + (1 + math.e) / 2) / 2), 0.0, right])
    assert best.log_probs[2].exp().tolist() == pytest.approx([1 / (1 + math.e), math.e / (1 + math.e)])
    assert best.log_probs[0].exp()[1].item() == pytest.approx(math.exp(right) / (1 + math.exp(right)))


def test_the_optimum_is_the_tilted_reference_over_whole_paths(tree: Tree) -> None:
    best = optimum(tree, BETA)
    reference = tree.ref_log_probs[tree.nodes, tree.paths].sum(-1)
    tilted = (reference + tree.rewards / BETA).softmax(-1)
    torch.testing.assert_close(best.log_probs[tree.nodes, tree.paths].sum(-1).exp(), tilted)
    assert best.values[0].item() == pytest.approx(BETA * (reference + tree.rewards / BETA).logsumexp(-1).item())
    assert success(tree, best.log_probs) == pytest.approx((tilted * tree.rewards).sum().item())
    assert best.values.min() >= 0 and best.values.max() <= 1


def test_nodes_and_paths_spell_the_tree(tree: Tree) -> None:
    # Two paths share the node at a depth exactly if they share the tokens before it.
    prefixes: dict[int, set[tuple[int, ...]]] = {}
    for path, nodes in zip(tree.paths.tolist(), tree.nodes.tolist(), strict=True):
        for depth, node in enumerate(nodes):
            prefixes.setdefault(node, set()).add(tuple(path[:depth]))
    assert len(prefixes) == len(tree.ref_log_probs) == 1 + 3 + 9 + 27
    assert all(len(found) == 1 for found in prefixes.values())
    assert len({next(iter(found)) for found in prefixes.values()}) == len(prefixes)


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_reaches_the_optimum(tree: Tree, level: str) -> None:
    got = fit(tree, BETA, level, updates=400)
    assert got.value_error < AIM and got.policy_error < AIM
    assert got.success == pytest.approx(got.optimal_success, abs=AIM)
    assert got.success > got.reference_success + 0.3
    assert got.lowest_value >= -0.1 and got.highest_value <= 1.1


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "horizon", "branching", "beta"), [(1, 6, 2, 0.1), (2, 6, 4, 0.1), (3, 3, 4, 1.0)])
@pytest.mark.parametrize("level", LEVELS)
def test_the_whole_range_reaches_the_optimum(seed: int, horizon: int, branching: int, beta: float, level: str) -> None:
    got = fit(random_tree(seed, horizon, branching), beta, level, updates=3000)
    assert got.value_error < AIM and got.policy_error < AIM


def test_values_read_one_state_off_miss_the_optimum(tree: Tree) -> None:
    def late(values: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return soft_bellman.value_residual(values.roll(1, dims=1), *rest)

    got = fit(tree, BETA, updates=400, value_residual=late)
    assert got.value_error > 0.1 and got.policy_error > 0.1


def test_a_policy_loss_that_forgets_later_tokens_misses_the_optimum(tree: Tree) -> None:
    def myopic(values: torch.Tensor, ratios: torch.Tensor, rewards: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return values.detach() + rest[-1] * ratios - rewards.unsqueeze(-1)

    assert fit(tree, BETA, updates=400, policy_residual=myopic).policy_error > 0.1


def test_successes_alone_miss_the_optimum(tree: Tree) -> None:
    got = fit(tree, BETA, alpha=0.01, updates=400, only=tree.rewards > 0)
    assert got.value_error > 0.1 and got.policy_error > 0.1


def test_the_regulariser_holds_the_policy_near_the_reference(tree: Tree) -> None:
    chances = [fit(tree, BETA, alpha=alpha, updates=200).success for alpha in (0.0, 0.3, 3.0)]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > chances[1] + 0.05


def test_the_same_seed_gives_the_same_fit() -> None:
    first, second = (fit(random_tree(5, 2, 2), BETA, updates=20) for _ in range(2))
    assert astuple(first) == astuple(second)
    assert astuple(first) != astuple(fit(random_tree(6, 2, 2), BETA, updates=20))


def test_bad_requests_are_named(tree: Tree) -> None:
    with pytest.raises(ValueError, match="choose one of token, step, response"):
        fit(tree, BETA, "sentence")
    with pytest.raises(ValueError, match="at most 100000 paths"):
        random_tree(0, horizon=12, branching=4)
