"""Intervals, pass@k and paired tests against numbers worked by hand and naive enumerations."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.evaluate.statistics import bootstrap_interval, compare, mcnemar, pass_at_k, wilson_interval


def test_wilson_by_hand():
    # n = 100, p = 0.5, z = 1.959964: z^2 = 3.841459; scale = 1.03841459; centre = (0.5 + 0.019207295) / 1.03841459 = 0.5
    # half = 1.959964 * sqrt(0.0025 + 0.00009603647) / 1.03841459 = 1.959964 * 0.0509513 / 1.03841459 = 0.0961685
    assert wilson_interval(50, 100) == pytest.approx((0.4038315, 0.5961685), abs=1e-6)
    # n = 10, p = 0.1: scale = 1.3841459; centre = (0.1 + 0.19207295) / 1.3841459 = 0.2110131
    # half = 1.959964 * sqrt(0.009 + 0.009603647) / 1.3841459 = 1.959964 * 0.1363952 / 1.3841459 = 0.1931365
    assert wilson_interval(1, 10) == pytest.approx((0.0178766, 0.4041496), abs=1e-5)


def test_wilson_at_the_edges_is_neither_empty_nor_outside():
    # 0 of n: high = z^2 / (n + z^2) = 3.841459 / 103.841459 = 0.0369935
    assert wilson_interval(0, 100) == pytest.approx((0.0, 0.0369935), abs=1e-6)
    assert wilson_interval(100, 100) == pytest.approx((0.9630065, 1.0), abs=1e-6)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_share_and_is_symmetric(case: tuple[int, int]):
    successes, count = case
    low, high = wilson_interval(successes, count)
    assert 0 <= low <= successes / count <= high <= 1
    mirrored = wilson_interval(count - successes, count)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_more_confidence_is_wider():
    narrow, wide = wilson_interval(30, 100, 0.8), wilson_interval(30, 100, 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("successes, count", [(-1, 10), (11, 10), (0, 0)])
def test_wilson_refuses_impossible_counts(successes: int, count: int):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, count)


def naive_pass_at_k(samples: int, correct: int, k: int) -> float:
    outcomes = [True] * correct + [False] * (samples - correct)
    draws = list(itertools.combinations(outcomes, k))
    return sum(any(draw) for draw in draws) / len(draws)


@pytest.mark.parametrize("samples", range(1, 8))
def test_pass_at_k_is_the_enumeration(samples: int):
    for correct in range(samples + 1):
        for k in range(1, samples + 1):
            assert pass_at_k(samples, correct, k) == pytest.approx(naive_pass_at_k(samples, correct, k), abs=1e-12)


def test_pass_at_k_by_hand():
    assert pass_at_k(4, 1, 2) == pytest.approx(0.5)  # 1 - C(3,2)/C(4,2) = 1 - 3/6
    assert pass_at_k(8, 2, 4) == pytest.approx(1 - 15 / 70)
    assert pass_at_k(5, 4, 2) == 1.0  # two of five always hit one of four
    # Control: 1 - (1 - c/n)^k, the biased plug-in, gives 0.4375 for the first case.
    assert pass_at_k(4, 1, 2) != pytest.approx(1 - 0.75**2)


def test_pass_at_k_is_unbiased():
    # E over 4 Bernoulli(0.3) samples of the estimate of pass@2 must be 1 - 0.7^2.
    expected = sum(math.comb(4, c) * 0.3**c * 0.7 ** (4 - c) * pass_at_k(4, c, 2) for c in range(5))
    assert expected == pytest.approx(1 - 0.7**2, abs=1e-12)


@pytest.mark.parametrize("case", [(4, 5, 1), (4, -1, 1), (4, 1, 5), (4, 1, 0)])
def test_pass_at_k_refuses(case: tuple[int, int, int]):
    with pytest.raises(ValueError):
        pass_at_k(*case)


def naive_mcnemar(only_first: int, only_second: int) -> float:
    """Every assignment of the discordant pairs to the two models, the ones at least as lopsided counted."""
    count = only_first + only_second
    seen = abs(only_first - only_second)
    tosses = list(itertools.product((1, -1), repeat=count))
    return sum(abs(sum(toss)) >= seen for toss in tosses) / len(tosses)


@pytest.mark.parametrize("only_first, only_second", [(0, 0), (0, 5), (1, 5), (3, 3), (7, 2), (4, 5)])
def test_mcnemar_is_the_enumeration(only_first: int, only_second: int):
    assert mcnemar(only_first, only_second) == pytest.approx(naive_mcnemar(only_first, only_second), abs=1e-12)


def test_mcnemar_by_hand():
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(1, 9) == pytest.approx(2 * 11 / 1024)
    assert mcnemar(1, 9) == mcnemar(9, 1)
    with pytest.raises(ValueError):
        mcnemar(-1, 2)


def test_compare_pairs_problem_by_problem():
    first = [True, True, False, False, False, True, False, False]
    second = [True, False, True, True, True, True, False, True]
    result = compare(first, second)
    assert (result.count, result.only_first, result.only_second) == (8, 1, 4)
    assert result.difference == pytest.approx(3 / 8)
    assert result.p_value == pytest.approx(2 * (1 + 5) / 32)
    assert result.low <= result.difference <= result.high
    # The same accuracies with other pairs: the interval depends on the pairing, the difference does not.
    shuffled = compare(first, sorted(second))
    assert shuffled.difference == pytest.approx(3 / 8)
    assert shuffled.only_first != result.only_first


def test_equal_models_have_no_difference():
    same = compare([True, False] * 10, [True, False] * 10)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_unpaired_answers_are_refused():
    with pytest.raises(ValueError, match="3 and 2"):
        compare([True, True, False], [True, False])


def test_bootstrap_is_repeatable_and_near_the_normal_interval():
    values = [1.0] * 40 + [0.0] * 60
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    # 0.4 +- 1.96 sqrt(0.24 / 100) = 0.304 .. 0.496
    assert low == pytest.approx(0.304, abs=0.02) and high == pytest.approx(0.496, abs=0.02)
    assert bootstrap_interval([0.25]) == (0.25, 0.25)
    with pytest.raises(ValueError):
        bootstrap_interval([])
