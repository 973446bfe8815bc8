"""OREO's residuals through the host's reduction and its log-probs: the same numbers as our own, in the same columns."""

import torch
from openrlhf.models.loss import aggregate_loss
from openrlhf.models.utils import log_probs_from_logits

from openrlhf_ext.losses.soft_bellman import mean_per_trajectory, policy_residual, states_of

IS_ACTION = torch.tensor([[0, 1, 1, 1, 0, 1], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
STARTS = torch.tensor([[0, 1, 0, 1, 0, 1], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()


def test_the_hosts_sequence_mean_is_the_mean_per_trajectory() -> None:
    generator = torch.Generator().manual_seed(0)
    values, ratios = torch.randn(2, 3, 6, generator=generator)
    rewards = torch.tensor([1.0, 0.0, 1.0])
    for level in ("token", "step", "response"):
        kept = states_of(level, IS_ACTION, STARTS).policy
        terms = policy_residual(values, ratios, rewards, IS_ACTION, kept, 0.1).square()
        alone = aggregate_loss(terms, kept.float(), token_level_loss=False)
        torch.testing.assert_close(alone, mean_per_trajectory(terms, kept))
        # One of two ranks of a step of eight trajectories: the host scales by dp_size because gradients are averaged over ranks.
        ranked = aggregate_loss(terms, kept.float(), token_level_loss=False, dp_size=2, global_batch_size=8)
        torch.testing.assert_close(ranked, 2 * mean_per_trajectory(terms, kept, trajectories=8))


def test_column_t_of_the_hosts_log_probs_is_token_t_plus_1() -> None:
    tokens = torch.tensor([[3, 1, 4, 2]])
    logits = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(1))
    got = log_probs_from_logits(logits[:, :-1], tokens[:, 1:])
    want = [logits[0, t].log_softmax(-1)[tokens[0, t + 1]] for t in range(3)]
    torch.testing.assert_close(got[0], torch.stack(want))
