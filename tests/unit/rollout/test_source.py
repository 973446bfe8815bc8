"""On-policy rollouts over engines that are played here: which groups stay, in which order, and what travels with every sample."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import ray

from openrlhf_ext.rollout import source as source_module
from openrlhf_ext.rollout.prompts import Prompt, PromptStream
from openrlhf_ext.rollout.source import MAX_WAVES, RolloutSource, SamplingOptions, VerifierFailed

OPTIONS = SamplingOptions(
    temperature=0.7, top_p=0.9, max_new_tokens=4, min_new_tokens=1, samples_per_prompt=2, max_len=16
)
Answer = Callable[[str, int], dict]
"""(prompt text, sample) -> what differs from the plain response."""


def response(prompt: str, label: str, sample: int, **changes: object) -> dict:
    """An upstream response dict: prompt of 2 tokens, action of 3."""
    plain = {
        "prompt": prompt,
        "label": label,
        "text": f"{prompt}/{sample}",
        "images": None,
        "mm_train_inputs": None,
        "observation_tokens": [7, 8, 20 + sample, 30, 2],
        "action_ranges": [(2, 5)],
        "rollout_log_probs": [0.0, 0.0, -1.0, -2.0, -0.5],
        "reward": 0.25 * sample,
        "scores": float(sample == 1),
        "truncated": False,
        "verifier_error": None,
        "extra_logs": {"correct": float(sample == 1), "verifier_error": 0.0},
    }
    return plain | changes


class Engine:
    """Answers like a Ray actor handle; notes what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.asked = answer, []
        self.generate_responses = SimpleNamespace(remote=self._generate)

    def _generate(self, *, prompt, label, sampling_params, max_length, hf_tokenizer, num_samples) -> list[dict]:
        self.asked.append((prompt, sampling_params, max_length))
        return [response(prompt, label, i, **self.answer(prompt, i)) for i in range(num_samples)]


@pytest.fixture(autouse=True)
def ray_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(source_module, "wait_for", lambda refs, what, seconds: list(refs))


def rollouts(
    answer: Answer = lambda prompt, sample: {}, engines: int = 1, prompts: int = 10, **options: object
) -> RolloutSource:
    rows = [Prompt(100 + i, f"p{i}", json.dumps({"answer": str(i)}), "toy") for i in range(prompts)]
    stream = PromptStream(rows, seed=0, shuffle=False)
    handles = [Engine(answer) for _ in range(engines)]
    return RolloutSource(SimpleNamespace(args=None), stream, None, handles, task_name="toy", **options)


def problems(rollout: source_module.Rollout) -> list[int]:
    return [row["problem_id"] for row in rollout.rows]


def test_groups_come_in_prompt_order_with_ids_on_every_sample() -> None:
    source = rollouts(engines=3)
    rollout = source.rollout(4, OPTIONS, step=5, policy="step_4")
    assert problems(rollout) == [100, 100, 101, 101, 102, 102, 103, 103]
    assert [row["group_id"] for row in rollout.rows] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [row["sample"] for row in rollout.rows] == [0, 1] * 4
    for sample, row in zip(rollout.samples, rollout.rows, strict=True):
        for name in ("problem_id", "group_id", "sample"):
            assert sample.info[name].tolist() == [float(row[name])]
        assert sample.prompts == [row["prompt"]]
        assert sample.rewards.tolist() == [row["reward"]]


def test_prompts_are_dealt_to_the_engines_in_turn_with_the_wanted_sampling() -> None:
    source = rollouts(engines=2)
    source.rollout(4, OPTIONS, step=1, policy="step_0")
    assert [[asked[0] for asked in engine.asked] for engine in source.vllm_engines] == [["p0", "p2"], ["p1", "p3"]]
    _, params, max_length = source.vllm_engines[0].asked[0]
    assert (params.temperature, params.top_p, params.max_tokens, params.min_tokens) == (0.7, 0.9, 4, 1)
    assert (params.logprobs, params.skip_special_tokens, max_length) == (0, False, 16)


def test_group_numbers_and_prompts_go_on_in_the_next_batch() -> None:
    source = rollouts()
    source.rollout(3, OPTIONS, step=1, policy="step_0")
    later = source.rollout(2, OPTIONS, step=2, policy="step_1")
    assert problems(later) == [103, 103, 104, 104]
    assert [row["group_id"] for row in later.rows] == [3, 3, 4, 4]
    assert [row["id"] for row in later.rows] == ["2-3-0", "2-3-1", "2-4-0", "2-4-1"]


def test_tokens_log_probs_and_mask_are_those_of_the_engine() -> None:
    sample = rollouts().rollout(1, OPTIONS, step=1, policy="step_0").samples[1]
    assert sample.sequences.tolist() == [[7, 8, 21, 30, 2]]
    assert sample.action_mask.tolist() == [[0, 1, 1, 1]]
    assert sample.rollout_log_probs.tolist() == [[0.0, -1.0, -2.0, -0.5]]
    assert (sample.response_length.item(), sample.total_length.item()) == (3, 5)


def test_rows_are_plain_values_and_say_where_they_come_from() -> None:
    row = rollouts().rollout(1, OPTIONS, step=3, policy="step_2").rows[1]
    assert json.loads(json.dumps(row)) == row
    assert (row["task"], row["policy"], row["step"], row["text"]) == ("toy", "step_2", 3, "p0/1")
    assert row["action_ranges"] == [[2, 5]]
    assert "verifier_error" not in row


def broken(*texts: str) -> Answer:
    """The verifier fails on the second sample of these prompts."""

    def answer(prompt: str, sample: int) -> dict:
        if prompt not in texts or sample == 0:
            return {}
        return {
            "verifier_error": "Traceback: boom",
            "reward": 0.0,
            "extra_logs": {"correct": 0.0, "verifier_error": 1.0},
        }

    return answer


def test_on_error_zero_keeps_the_group_and_shows_the_error() -> None:
    rollout = rollouts(broken("p1"), on_error="zero").rollout(3, OPTIONS, step=1, policy="step_0")
    assert problems(rollout) == [100, 100, 101, 101, 102, 102]
    assert [row.get("verifier_error") for row in rollout.rows] == [None, None, None, "Traceback: boom", None, None]
    assert [s.info["verifier_error"].item() for s in rollout.samples] == [0, 0, 0, 1, 0, 0]
    assert rollout.groups_failed == 0


def test_on_error_drop_group_replaces_the_whole_group_by_the_next_prompt() -> None:
    rollout = rollouts(broken("p1", "p3"), on_error="drop-group").rollout(3, OPTIONS, step=1, policy="step_0")
    assert problems(rollout) == [100, 100, 102, 102, 104, 104]
    assert (rollout.groups_failed, rollout.prompts_consumed) == (2, 5)


def test_on_error_fail_stops_with_the_verifiers_traceback() -> None:
    with pytest.raises(VerifierFailed, match=r"task toy failed and task\.on_error is fail(.|\n)*boom"):
        rollouts(broken("p1"), on_error="fail").rollout(3, OPTIONS, step=1, policy="step_0")


def scored(**wins: int) -> Answer:
    """How many of a prompt's samples are correct (default 1 of 2)."""
    return lambda prompt, sample: {"scores": float(sample < wins.get(prompt, 1))}


def test_the_filter_sees_the_mean_correctness_and_its_groups_are_replaced() -> None:
    seen = []

    def keep(score: float) -> bool:
        seen.append(score)
        return 0.0 < score < 1.0

    source = rollouts(scored(p0=2, p2=0), keep_score=keep)
    rollout = source.rollout(3, OPTIONS, step=1, policy="step_0")
    assert problems(rollout) == [101, 101, 103, 103, 104, 104]
    assert seen == [1.0, 0.5, 0.0, 0.5, 0.5]
    assert (rollout.groups_filtered, rollout.prompts_consumed) == (2, 5)
    # Replaced groups keep their number, so that a number never names two groups.
    assert [row["group_id"] for row in rollout.rows[::2]] == [1, 3, 4]
    assert source.groups_total == 5


def test_a_filter_that_keeps_nothing_ends_with_the_counts() -> None:
    source = rollouts(scored(**{f"p{i}": 2 for i in range(10)}), keep_score=lambda score: score < 1.0)
    with pytest.raises(
        RuntimeError, match=rf"only 0 of 2 groups were usable after {MAX_WAVES} waves \(100 filtered, 0 with"
    ):
        source.rollout(2, OPTIONS, step=1, policy="step_0")


def test_a_whole_group_is_never_split() -> None:
    source = rollouts(scored(p0=0, p3=0, p4=2), keep_score=lambda score: 0.0 < score < 1.0)
    rows = source.rollout(5, OPTIONS, step=1, policy="step_0").rows
    pairs = [
        (a["problem_id"], b["problem_id"], a["sample"], b["sample"]) for a, b in zip(rows[::2], rows[1::2], strict=True)
    ]
    assert pairs == [(i, i, 0, 1) for i in (101, 102, 105, 106, 107)]
