"""The verdict: before, after and best from evaluation rows, with the right intervals."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.record.run_dir import RunDir
from openrlhf_ext.record.stats import (
    difference_interval,
    mean_interval,
    paired_interval,
    quantile,
    sign_test,
    smooth,
    smoothing_window,
    wilson,
)
from openrlhf_ext.record.verdict import summary_table, verdicts


def rows() -> list[dict]:
    def row(step: int, accuracy: float, length: float) -> dict:
        return {
            "step": step,
            "eval/game24/accuracy": accuracy,
            "eval/game24/length": length,
            "eval/game24/count": 100.0,
            "eval/game24/verifier_errors": 0.0,
        }

    first = row(0, 0.31, 88.0) | {"eval/game24/pass@8": 0.5, "eval/game24/pass@8_count": 32.0}
    last = row(20, 0.44, 71.5) | {"eval/game24/pass@8": 0.625, "eval/game24/pass@8_count": 32.0}
    return [first, row(10, 0.47, 75.0), last, {"step": 21, "train/kl": 1.0, "eval/loss": 2.0}]


def test_before_after_and_best() -> None:
    (verdict,) = verdicts(rows())
    accuracy, sampled, length = verdict.measures
    assert (verdict.suite, verdict.count) == ("game24", 100)
    assert accuracy.after is not None and accuracy.best is not None
    assert (accuracy.before.value, accuracy.after.value, accuracy.best.value, accuracy.best.step) == (
        0.31,
        0.44,
        0.47,
        10,
    )
    assert accuracy.change() == "+13.0 points"
    # Wilson's interval of 31 of 100: (0.31 + 1.9207/100 -+ 1.96 sqrt(0.31 0.69/100 + 0.9604/10000)) / 1.038415
    assert accuracy.before.interval == pytest.approx((0.2278, 0.4063), abs=1e-4)
    assert sampled.name == "pass@8 (32 problems)" and sampled.before.interval == pytest.approx((0.336, 0.664), abs=1e-3)
    assert length.best is None and length.change() == "-16.5" and length.before.interval is None


def test_the_table_a_demo_prints(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "", {})
    for row in rows():
        run.metrics(row["step"], {key: value for key, value in row.items() if key != "step"})
    assert summary_table(tmp_path) == "\n".join(
        [
            "game24, 100 problems  before (step 0)  after (step 20)  change        best",
            "--------------------------------------------------------------------------------------",
            "greedy accuracy       31.0 % [23-41]   44.0 % [35-54]   +13.0 points  47.0 % [38-57] @ 10",
            "pass@8 (32 problems)  50.0 % [34-66]   62.5 % [45-77]   +12.5 points",
            "mean length (tokens)  88.0             71.5             -16.5",
            "Greedy accuracy on 100 held-out problems (game24) rose from 31.0 % to 44.0 %: "
            "+13.0 points, 95 % interval -0.4 to +25.8. No clear change: the interval holds 0.",
            "best: picked on these same problems, so it flatters; model/ holds the last one.",
        ]
    ).replace("-" * 86, "-" * 89)


def test_what_two_shares_count_is_said_where_both_stand(tmp_path: Path) -> None:
    row = {"eval/game24/accuracy": 0.5, "eval/game24/reward": 0.7, "eval/game24/unfinished": 0.3}
    run = RunDir.create(tmp_path, "", {})
    run.metrics(0, row)
    table = summary_table(tmp_path)
    assert "mean reward (greedy)  0.700" in table and "unfinished share" in table
    assert "mean reward: of the greedy answers, by the task's default rules" in table
    assert "cut off" not in table, "one of the two alone needs no footnote"
    run.metrics(1, row | {"eval/game24/truncated": 0.2})
    both = summary_table(tmp_path)
    assert "unfinished: the answer reached no final line, stopped or not; cut off: the token limit stopped it." in both
    assert verdicts([{"step": 0, "eval/chain/accuracy": 0.5}])[0].footnotes() == []


def test_without_or_with_one_evaluation(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "", {})
    assert summary_table(tmp_path) == "no evaluation was recorded in this run"
    run.metrics(0, {"eval/chain/accuracy": 0.5})
    assert summary_table(tmp_path).splitlines() == [
        "chain            before (step 0)",
        "-" * 32,
        "greedy accuracy  50.0 %",
    ]
    assert verdicts([{"step": 0, "eval/chain/accuracy": 0.5}])[0].sentence() == ""


@given(st.integers(1, 500).flatmap(lambda count: st.tuples(st.just(count), st.integers(0, count))))
def test_wilson_is_an_interval_around_the_share(case: tuple[int, int]) -> None:
    count, successes = case
    low, high = wilson(successes, count)
    assert 0 <= low <= successes / count + 1e-12 and successes / count - 1e-12 <= high <= 1
    for edge in (low, high):  # its ends are the shares that a normal test would just not reject
        if 1e-9 < edge < 1 - 1e-9:
            assert abs(successes / count - edge) == pytest.approx(
                1.959964 * math.sqrt(edge * (1 - edge) / count), rel=1e-4, abs=1e-9
            )


def test_wilson_needs_a_count() -> None:
    with pytest.raises(ValueError, match="at least one"):
        wilson(0, 0)


def test_newcombes_published_examples() -> None:
    # Newcombe 1998, table II, method 10: 56/70 - 48/80 = 0.2 gives 0.0524 to 0.3339; 9/10 - 3/10 gives 0.1705 to 0.8090.
    assert difference_interval(48 / 80, 56 / 70, 80, 70) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert difference_interval(0.3, 0.9, 10, 10) == pytest.approx((0.1705, 0.8090), abs=1e-4)


def test_paired_statistics_by_hand() -> None:
    assert sign_test(0, 0) == 1.0 and sign_test(5, 5) == 1.0
    assert sign_test(8, 1) == pytest.approx(2 * (1 + 9) / 512)
    # (21.5 - 8.5) / 102 -+ 1.96 sqrt(30 - 13^2 / 102) / 102
    assert paired_interval(21, 8, 100) == pytest.approx((13 / 102 - 0.10229, 13 / 102 + 0.10229), abs=1e-4)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.integers(0, 9))
def test_smoothing_equals_a_naive_loop(values: list[float], half: int) -> None:
    smoothed = smooth(values, 2 * half + 1)
    for i, value in enumerate(smoothed):
        reach = min(half, i, len(values) - 1 - i)
        near = values[i - reach : i + reach + 1]
        assert value == pytest.approx(sum(near) / len(near), abs=1e-6)


def test_smoothing_keeps_gaps_and_short_curves() -> None:
    assert smooth([1.0, None, 3.0], 3) == [1.0, None, 3.0]
    assert smooth([1.0, None, 3.0, 5.0, 7.0], 3) == [1.0, None, 4.0, 5.0, 7.0]
    assert [smoothing_window(n) for n in (1, 11, 12, 60, 240)] == [1, 1, 3, 5, 21]
    assert [quantile([3.0, 1.0, 2.0, 4.0], q) for q in (0.0, 0.5, 0.98)] == [1.0, 2.0, 4.0]


def test_the_interval_of_a_mean_over_seeds_is_students() -> None:
    # 1, 2, 3: mean 2, deviation 1, t(2) = 4.303, so 2 +- 4.303 / sqrt 3.
    assert mean_interval([1, 2, 3]) == pytest.approx((2 - 2.4843, 2 + 2.4843), abs=1e-3)
    assert mean_interval([5]) is None, "one run tells no spread"
    low, high = mean_interval([0.0, 1.0] * 6) or (0, 0)  # t(11) = 2.201, deviation 0.5222
    assert high - low == pytest.approx(2 * 2.201 * 0.52223 / math.sqrt(12), abs=2e-3)
