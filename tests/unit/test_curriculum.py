"""Schedules of stages, worked by hand; a resumed schedule goes on exactly where it stopped."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.curriculum import Adaptive, Staged, equal_budgets

batches = st.lists(st.integers(0, 17), max_size=10)


def test_staged_walks_from_the_end_to_the_question() -> None:
    staged = Staged([2, 3, 1])
    assert [staged.take(2), staged.take(3), staged.take(4)] == [[2, 1], [1, 1, 0], [0, 0, 0, 0]]
    assert staged.metrics() == {"stage": 0.0}


def test_a_stage_without_budget_is_passed_over() -> None:
    assert Staged([1, 0, 2, 0]).take(4) == [2, 2, 0, 0]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), batches)
def test_staged_as_a_list_of_its_budgets(budgets: list[int], sizes: list[int]) -> None:
    staged = Staged(budgets)
    taken = [stage for size in sizes for stage in staged.take(size)]
    walk = [stage for stage in range(len(budgets) - 1, -1, -1) for _ in range(budgets[stage])]
    assert taken == (walk + [0] * len(taken))[: len(taken)]


def test_success_does_not_move_fixed_budgets() -> None:
    staged = Staged([1, 2])
    staged.observe(1, 0, 10)
    assert staged.take(3) == [1, 1, 0]


@pytest.mark.parametrize(
    ("success", "floor", "shares"),
    [
        ([0.5, 0.5, 0.5, 0.5], 0.2, [0.25, 0.25, 0.25, 0.25]),  # nothing measured yet: mixed
        ([0.0, 0.5, 1.0], 0.3, [0.1, 0.8, 0.1]),
        ([0.2, 0.5, 0.8], 0.3, [0.1 + 0.7 * 16 / 57, 0.1 + 0.7 * 25 / 57, 0.1 + 0.7 * 16 / 57]),
        ([0.0, 0.0, 1.0], 0.3, [1 / 3, 1 / 3, 1 / 3]),  # no stage has any spread
        ([0.0, 0.5], 1.0, [0.5, 0.5]),  # floor 1: success is ignored
    ],
)
def test_shares(success: list[float], floor: float, shares: list[float]) -> None:
    adaptive = Adaptive(len(success), floor)
    adaptive.success = success
    assert adaptive.shares() == pytest.approx(shares)


def test_the_stage_that_is_owed_most_comes_next() -> None:
    adaptive = Adaptive(3, floor=0.25)
    adaptive.shares = lambda: [0.5, 0.25, 0.25]  # type: ignore[method-assign]
    assert adaptive.take(8) == [0, 1, 2, 0, 0, 1, 2, 0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.floats(0.05, 1), batches)
def test_counts_follow_the_shares(success: list[float], floor: float, sizes: list[int]) -> None:
    adaptive = Adaptive(len(success), floor)
    adaptive.success = success
    shares = adaptive.shares()
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= floor / len(success) - 1e-9
    counts = Counter(stage for size in sizes for stage in adaptive.take(size))
    for stage, share in enumerate(shares):
        assert abs(counts[stage] - share * sum(sizes)) < len(success)


def test_success_is_an_average_over_the_memory() -> None:
    adaptive = Adaptive(2, memory=2)
    adaptive.observe(0, 1, 1)
    adaptive.observe(1, 0, 3)
    assert adaptive.success == [0.75, 0.0625]  # 1/2 * 0.5 + 1/2 * 1;  1/8 * 0.5
    adaptive.observe(0, 1, 2)
    assert adaptive.success[0] == 0.5625  # 1/4 * 0.75 + 3/4 * 0.5
    adaptive.observe(0, 0, 0)
    assert adaptive.success[0] == 0.5625
    assert adaptive.metrics() == pytest.approx(
        {
            "stage_0/success": 0.5625,
            "stage_1/success": 0.0625,
            "stage_0/share": 0.125 + 0.75 * 63 / 78,
            "stage_1/share": 0.125 + 0.75 * 15 / 78,
        }
    )


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 300))
def test_one_large_batch_counts_as_equal_small_ones(correct: int, times: int, memory: int) -> None:
    whole, parts = Adaptive(1, memory=memory), Adaptive(1, memory=memory)
    whole.observe(0, correct * times, 10 * times)
    for _ in range(times):
        parts.observe(0, correct, 10)
    assert whole.success == pytest.approx(parts.success)


def test_the_frontier_moves_back_as_stages_are_learned() -> None:
    """A stage is learned once it gets its half of the attention: the most common stage walks from the end to the question."""
    adaptive, skill, leaders = Adaptive(4, memory=16), [0.0, 0.0, 0.0, 0.4], []
    for _ in range(60):
        counts = Counter(adaptive.take(64))
        for stage, count in counts.items():
            adaptive.observe(stage, round(skill[stage] * count), count)
            nearer_known = stage == 3 or skill[stage + 1] > 0.8
            skill[stage] = min(1.0, skill[stage] + 0.004 * count) if nearer_known else skill[stage]
        leaders.append(counts.most_common(1)[0][0])
    first_led = [leaders.index(stage, 3) for stage in (2, 1, 0)]  # the first batches are mixed
    assert first_led == sorted(first_led) and skill[0] > 0.9


@given(batches, batches, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), max_size=6), st.booleans())
def test_a_resumed_schedule_has_the_same_tail(before, after, seen, staged: bool) -> None:
    def fresh() -> Staged | Adaptive:
        return Staged([5, 9, 13]) if staged else Adaptive(3, memory=10)

    one, other = fresh(), fresh()
    for size in before:
        one.take(size)
    for stage, correct in seen:
        one.observe(stage, correct, 4)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for size in after:
        assert other.take(size) == one.take(size)
    assert other.metrics() == one.metrics()


def test_a_state_of_another_run_is_refused() -> None:
    with pytest.raises(ValueError, match="stage budgets"):
        Staged([1, 2]).load_state_dict(Staged([2, 1]).state_dict())
    with pytest.raises(ValueError, match="3 stages, this run 2"):
        Adaptive(2).load_state_dict(Adaptive(3).state_dict())


@pytest.mark.parametrize(("total", "stages", "budgets"), [(10, 5, [2] * 5), (12, 5, [4, 2, 2, 2, 2]), (7, 1, [7])])
def test_equal_budgets(total: int, stages: int, budgets: list[int]) -> None:
    assert equal_budgets(total, stages) == budgets


@pytest.mark.parametrize(
    "make",
    [
        lambda: Staged([]),
        lambda: Staged([1, -1]),
        lambda: Adaptive(0),
        lambda: Adaptive(3, floor=0.0),
        lambda: Adaptive(3, floor=1.5),
        lambda: Adaptive(3, memory=0.5),
        lambda: Adaptive(3).observe(0, 3, 2),
        lambda: equal_budgets(3, 4),
        lambda: equal_budgets(3, 0),
    ],
)
def test_impossible_settings_are_refused(make) -> None:
    with pytest.raises(ValueError, match=r"give|cannot"):
        make()
