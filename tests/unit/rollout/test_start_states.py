"""The stream of start states: stages as scheduled, each in an order of its own, resumed exactly; metrics per stage."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.curriculum import Adaptive, Staged
from openrlhf_ext.rollout.prompts import Prompt, PromptStream
from openrlhf_ext.rollout.start_states import (
    StageStream,
    by_stage,
    make_stream,
    observe,
    stage_metrics,
    stage_of,
    stages_of,
)

SIZES = (4, 3, 5)


def prompts() -> list[Prompt]:
    """4, 3 and 5 start states of the stages 0, 1, 2, in mixed order."""
    stages = [stage for stage, size in enumerate(SIZES) for _ in range(size)]
    mixed = [stages[i * 5 % 12] for i in range(12)]
    return [Prompt(i, f"q{i}", "{}", f"stage_{stage}") for i, stage in enumerate(mixed)]


def stages(taken: list[Prompt]) -> list[int]:
    return [stage_of(prompt) for prompt in taken]


def test_pools_hold_their_stage() -> None:
    assert tuple(map(len, by_stage(prompts()))) == SIZES
    assert all(set(stages(pool)) == {stage} for stage, pool in enumerate(by_stage(prompts())))


def test_stages_by_problem() -> None:
    assert stages_of(prompts()[:4]) == {0: 0, 1: 1, 2: 2, 3: 0}


@pytest.mark.parametrize("datasource", ["gsm8k", "stage_", "stage_1x", "my_stage_1", "stage_-1"])
def test_other_prompts_are_refused(datasource: str) -> None:
    with pytest.raises(ValueError, match="row 7 has datasource"):
        stage_of(Prompt(7, "q", "{}", datasource))


def test_a_missing_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="no start states of stage 1"):
        by_stage([prompt for prompt in prompts() if stage_of(prompt) != 1])
    with pytest.raises(ValueError, match="no start states of stage 0"):
        by_stage([])


def test_staged_uses_a_whole_stage_before_the_next() -> None:
    taken = make_stream("staged", prompts(), seed=1).take(12)
    assert stages(taken) == [2] * 5 + [1] * 3 + [0] * 4
    assert sorted(prompt.problem_id for prompt in taken) == list(range(12))


def test_staged_budgets_may_be_given() -> None:
    assert stages(make_stream("staged", prompts(), seed=1, budgets=[1, 2, 7]).take(11)) == [2] * 7 + [1, 1, 0, 0]


def test_plain_holds_the_questions_alone_and_mixed_holds_everything() -> None:
    assert stages(make_stream("plain", prompts(), seed=1).take(9)) == [0] * 9
    mixed = make_stream("mixed", prompts(), seed=1)
    assert isinstance(mixed, PromptStream) and len(mixed) == 12
    assert Counter(stages(mixed.take(12))) == {0: 4, 1: 3, 2: 5}


def test_adaptive_begins_mixed_and_follows_success() -> None:
    stream = make_stream("adaptive", prompts(), seed=1, floor=0.3, memory=1)
    assert isinstance(stream, StageStream)
    assert Counter(stages(stream.take(30))) == {0: 10, 1: 10, 2: 10}
    stream.schedule.observe(0, 0, 8)
    stream.schedule.observe(1, 4, 8)
    stream.schedule.observe(2, 8, 8)
    assert Counter(stages(stream.take(100))) == {0: 10, 1: 80, 2: 10}


def test_within_a_stage_all_come_before_any_comes_again() -> None:
    taken = make_stream("adaptive", prompts(), seed=3).take(90)
    for stage, size in enumerate(SIZES):
        ids = [prompt.problem_id for prompt in taken if stage_of(prompt) == stage]
        for start in range(0, len(ids) - size, size):
            assert len(set(ids[start : start + size])) == size


def test_unknown_modes_and_wrong_numbers_of_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one of mixed, staged, plain, adaptive"):
        make_stream("reverse", prompts(), seed=1)
    with pytest.raises(ValueError, match="the schedule has 2 stages, the data 3"):
        make_stream("staged", prompts(), seed=1, budgets=[1, 1])


@given(
    st.sampled_from([Staged, Adaptive]),
    st.lists(st.integers(0, 9), max_size=8),
    st.lists(st.integers(0, 9), max_size=8),
)
def test_a_resumed_stream_has_the_same_tail(kind: type, before: list[int], after: list[int]) -> None:
    def fresh() -> StageStream:
        return StageStream(prompts(), Staged([6, 6, 7]) if kind is Staged else Adaptive(3), seed=5)

    one, other = fresh(), fresh()
    for size in before:
        taken = one.take(size)
        for stage, count in Counter(stages(taken)).items():
            one.schedule.observe(stage, count // 2, count)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert [other.take(size) for size in after] == [one.take(size) for size in after]


def test_a_checkpoint_of_other_data_is_refused() -> None:
    state = StageStream(prompts(), Adaptive(3), seed=5).state_dict()
    with pytest.raises(ValueError, match=r"written over 4 prompts .* has 3"):
        StageStream(prompts()[1:], Adaptive(3), seed=5).load_state_dict(state)
    with pytest.raises(ValueError, match="has 3 stages, this run 2"):
        two = [prompt for prompt in prompts() if stage_of(prompt) < 2]
        StageStream(two, Adaptive(2), seed=5).load_state_dict(state)


def row(problem_id: int, scores: float, reward: float, length: int, truncated: bool = False) -> dict:
    spans = [[3, 3 + length]]
    return {
        "problem_id": problem_id,
        "scores": scores,
        "reward": reward,
        "action_ranges": spans,
        "truncated": truncated,
    }


ROWS = [row(0, 1, 1.0, 6), row(0, 0, 0.2, 1), row(1, 0, 0.2, 9, True), row(2, 0, 0.0, 0)]
STAGES = {0: 2, 1: 0, 2: 0}


def test_metrics_per_stage() -> None:
    assert stage_metrics(ROWS, STAGES) == pytest.approx(
        {
            "rollout/stage_0/samples": 2.0,
            "rollout/stage_0/correct": 0.0,
            "rollout/stage_0/reward": 0.1,
            "rollout/stage_0/response_length": 4.5,
            "rollout/stage_0/truncated_rate": 0.5,
            "rollout/stage_0/empty_rate": 0.5,
            "rollout/stage_2/samples": 2.0,
            "rollout/stage_2/correct": 0.5,
            "rollout/stage_2/reward": 0.6,
            "rollout/stage_2/response_length": 3.5,
            "rollout/stage_2/truncated_rate": 0.0,
            "rollout/stage_2/empty_rate": 0.5,
        }
    )


def test_partial_rewards_are_not_success() -> None:
    adaptive = Adaptive(3, memory=2)
    observe(adaptive, ROWS, STAGES)
    assert adaptive.success == [0.125, 0.5, 0.5]  # 0 of 2;  not seen;  1 of 2
