"""The parts together, as a trainer will call them: stored samples -> batches -> one pass of two small recurrent networks -> losses -> updates."""

import copy

import pytest
import torch
from torch import nn

from openrlhf_ext.data.trajectory import Trajectory
from openrlhf_ext.losses.health import value_health
from openrlhf_ext.losses.soft_bellman import LEVELS, mean_per_trajectory, policy_residual, states_of, value_residual
from openrlhf_ext.losses.soft_optimum import Tree, optimum, random_tree, success
from openrlhf_ext.losses.vocabulary import action_terms
from openrlhf_ext.rollout.collate import OfflineBatch, collate

BETA, ALPHA = 0.3, 0.01
START, PAD = 3, 4
WIDTH = 24


class Network(nn.Module):
    """Hidden states of every prefix, and a head on them."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, WIDTH)
        self.body = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, outputs, bias=False)

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.body(self.embedding(tokens))[0]


@pytest.fixture(scope="module")
def tree() -> Tree:
    return random_tree(seed=3, horizon=3, branching=3, success_rate=0.4)


@pytest.fixture(scope="module")
def reference(tree: Tree) -> Network:
    """A network whose policy is close to the tree's reference: the SFT model."""
    torch.manual_seed(0)
    network = Network(3)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    wanted = tree.ref_log_probs[tree.nodes].float().exp()
    for _ in range(100):
        loss = -(wanted * network.head(network.hidden(inputs(tree))).log_softmax(-1)).sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.requires_grad_(False)


def inputs(tree: Tree) -> torch.Tensor:
    """The prompt token and all actions but the last, for every path: [P, horizon]."""
    return torch.cat([torch.full((len(tree.paths), 1), START), tree.paths[:, :-1]], dim=1)


def table(tree: Tree, network: Network) -> torch.Tensor:
    """log pi at every inner node, [M, branching]."""
    with torch.no_grad():
        found = network.head(network.hidden(inputs(tree))).log_softmax(-1).double()
    result = torch.zeros_like(tree.ref_log_probs)
    result[tree.nodes] = found
    return result


def stored(tree: Tree) -> list[Trajectory]:
    """Every path once, in steps of two tokens, as a trajectory file would hold them."""
    return [
        {
            "prompt": "",
            "label": "{}",
            "observation_tokens": [START, *path],
            "action_ranges": [(1, 1 + len(path))],
            "rollout_log_probs": None,
            "reward": reward,
            "scores": None,
            "truncated": False,
            "extra_logs": {},
            "step_starts": list(range(1, 1 + len(path), 2)),
        }
        for path, reward in zip(tree.paths.tolist(), tree.rewards.tolist(), strict=True)
    ]


def train(
    tree: Tree, reference: Network, level: str, updates: int, columns: int = 0
) -> tuple[Network, Network, OfflineBatch]:
    """`columns`: by how many places the values are moved (the control)."""
    batch = collate(stored(tree), pad_id=PAD, need_steps=level == "step")
    states = states_of(level, batch.is_action, batch.starts_step)
    policy = copy.deepcopy(reference).requires_grad_(True)
    critic = Network(1)
    critic.load_state_dict({k: v for k, v in reference.state_dict().items() if "head" not in k}, strict=False)
    nn.init.zeros_(critic.head.weight)
    optimisers = [torch.optim.Adam(network.parameters(), lr=1e-2) for network in (policy, critic)]
    with torch.no_grad():
        ref_hidden = reference.hidden(batch.tokens)[:, :-1]
        seen = (ref_hidden, ref_hidden, batch.actions, batch.is_action, reference.head, reference.head)
        ref_log_probs = action_terms(*seen, chunk=64).log_probs
    for _ in range(updates):
        hidden = policy.hidden(batch.tokens)[:, :-1]
        terms = action_terms(hidden, ref_hidden, batch.actions, batch.is_action, policy.head, reference.head, chunk=64)
        values = critic.head(critic.hidden(batch.tokens)).squeeze(-1)[:, :-1].roll(columns, dims=1)
        rest = (values, terms.log_probs - ref_log_probs, batch.rewards, batch.is_action)
        loss = mean_per_trajectory(value_residual(*rest, states.value, BETA).square(), states.value)
        loss = loss + mean_per_trajectory(policy_residual(*rest, states.policy, BETA).square(), states.policy)
        loss = loss + ALPHA * mean_per_trajectory(terms.kl, batch.is_action)
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
    return policy, critic, batch


def of_reference(tree: Tree, reference: Network) -> Tree:
    """The tree with what the network really is as its reference."""
    return Tree(tree.horizon, tree.branching, table(tree, reference), tree.rewards, tree.paths, tree.nodes)


@pytest.mark.parametrize("level", LEVELS)
def test_networks_come_near_the_optimum(tree: Tree, reference: Network, level: str) -> None:
    actual = of_reference(tree, reference)
    best = optimum(actual, BETA)
    policy, critic, batch = train(tree, reference, level, updates=100)
    assert (table(tree, policy).exp() - best.log_probs.exp()).abs().max().item() < 0.05
    assert success(actual, table(tree, policy)) > success(actual, actual.ref_log_probs) + 0.35
    with torch.no_grad():
        values = critic.head(critic.hidden(batch.tokens)).squeeze(-1)[:, :-1]
    state = states_of(level, batch.is_action, batch.starts_step).value
    assert (values - best.values[tree.nodes])[state].abs().max().item() < 0.05
    assert value_health(values, state).outside == 0.0


def test_values_read_one_column_off_do_not(tree: Tree, reference: Network) -> None:
    actual = of_reference(tree, reference)
    policy, _, _ = train(tree, reference, "token", updates=100, columns=-1)
    assert (table(tree, policy).exp() - optimum(actual, BETA).log_probs.exp()).abs().max().item() > 0.1


def test_a_zero_value_head_starts_at_exactly_zero_and_the_policy_at_the_reference(
    tree: Tree, reference: Network
) -> None:
    policy, critic, batch = train(tree, reference, "token", updates=0)
    with torch.no_grad():
        assert not critic.head(critic.hidden(batch.tokens)).any()
    # The networks compute in single precision, where two passes of equal weights may differ in the last bit.
    torch.testing.assert_close(table(tree, policy), table(tree, reference), rtol=0, atol=1e-6)
