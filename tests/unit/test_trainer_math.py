"""The numbers that the trainer reports: literal values over hand-made rollouts and experiences."""

from __future__ import annotations

import math

import pytest
import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_ext.rollout.source import Rollout
from openrlhf_ext.trainer import _cost, logprob_gap, rollout_metrics, train_metrics


def row(reward: float, length: int, *, correct: float = 0.0, truncated: bool = False, error: float = 0.0) -> dict:
    """A trajectory row: prompt of 3 tokens, ``length`` generated ones."""
    return {
        "reward": reward,
        "action_ranges": [[3, 3 + length]],
        "observation_tokens": [0] * (3 + length),
        "truncated": truncated,
        "extra_logs": {"outcome": 2 * correct, "correct": correct, "verifier_error": error},
    }


ROLLOUT = Rollout(
    rows=[row(1.0, 4, correct=1.0), row(0.0, 8, truncated=True, error=1.0), row(0.5, 1), row(0.5, 11, error=1.0)],
    prompts_consumed=5,
    groups_filtered=2,
    groups_failed=1,
)


def test_rollout_metrics_are_means_and_counts() -> None:
    assert rollout_metrics(ROLLOUT) == pytest.approx(
        {
            "rollout/reward_mean": 0.5,
            "rollout/reward_std": math.sqrt((0.25 + 0.25) / 3),
            "rollout/response_length_mean": 6.0,
            "rollout/truncated_rate": 0.25,
            "rollout/empty_rate": 0.25,  # the one that ended at once
            "rollout/prompts_consumed": 5.0,
            "rollout/groups_filtered": 2.0,
            "rollout/groups_failed": 1.0,
            "rollout/outcome": 0.5,
            "rollout/correct": 0.25,
            "rollout/verifier_errors": 2.0,  # a count: how many verdicts are no verdicts
        }
    )


def test_costs_are_tokens_generated_and_tokens_trained_on() -> None:
    assert _cost(ROLLOUT) == {"rollout_tokens": 24, "rollout_samples": 4, "train_tokens": 24 + 4 * 3}


def test_every_turn_of_an_episode_is_counted() -> None:
    episode = row(1.0, 4) | {"action_ranges": [[3, 4], [9, 11]], "observation_tokens": [0] * 12}
    rollout = Rollout(rows=[episode, row(0.0, 5)])
    assert _cost(rollout) == {"rollout_tokens": 3 + 5, "rollout_samples": 2, "train_tokens": 12 + 8}
    assert rollout_metrics(rollout)["rollout/response_length_mean"] == 4.0


def test_status_is_renamed_and_what_upstream_did_not_report_is_left_out() -> None:
    status = {
        "policy_loss": torch.tensor(0.25),
        "actor_lr": 1e-5,
        "kl": 0,
        "reward": 3.0,
        "generated_samples": ["a", 1],
    }
    assert train_metrics(status) == pytest.approx({"train/policy_loss": 0.25, "train/lr": 1e-5, "train/kl": 0.0})


def experience(trained: list[list[float]], rolled: list[list[float]] | None, mask: list[list[int]]) -> Experience:
    return Experience(
        action_log_probs=torch.tensor(trained),
        rollout_log_probs=None if rolled is None else torch.tensor(rolled),
        action_mask=torch.tensor(mask),
    )


def test_the_gap_is_over_generated_tokens_only() -> None:
    gap = logprob_gap(
        [
            experience([[-1.0, -2.0, 9.0]], [[-1.5, -2.0, 0.0]], [[1, 1, 0]]),  # gaps .5, 0; padding differs by 9
            experience([[7.0, -1.0]], [[0.0, -1.25]], [[0, 1]]),  # the prompt differs by 7; gap .25
        ]
    )
    assert gap == pytest.approx({"health/logprob_gap_mean": 0.25, "health/logprob_gap_max": 0.5})


def test_without_rollout_log_probs_there_is_no_gap_to_report() -> None:
    assert logprob_gap([experience([[-1.0]], None, [[1]])]) == {}
