import csv
from fractions import Fraction
from itertools import permutations
from operator import add, mul, sub, truediv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.tasks.game24.puzzles import combine, is_solvable, reduce_ratio, solvable_puzzles, split_puzzles


@pytest.fixture(scope="module")
def puzzles() -> list[tuple[int, ...]]:
    return solvable_puzzles()


def test_there_are_1362_puzzles(puzzles):
    assert len(puzzles) == len(set(puzzles)) == 1362


def test_they_equal_the_published_list(puzzles, shared_data):
    table = shared_data / "game24" / "24.csv"
    if not table.is_file():
        pytest.skip("no game24/24.csv")
    with table.open() as file:
        published = {tuple(sorted(map(int, row["Puzzles"].split()))) for row in csv.DictReader(file)}
    assert set(puzzles) == published


def test_split_is_1262_and_100_without_overlap(puzzles):
    train, test = split_puzzles(puzzles, seed=42)
    assert (len(train), len(test)) == (1262, 100)
    train_sets, test_sets = ({tuple(sorted(case)) for case in part} for part in (train, test))
    assert not train_sets & test_sets
    assert train_sets | test_sets == set(puzzles)


def test_digits_of_both_splits_are_shuffled(puzzles):
    for part in split_puzzles(puzzles, seed=42):
        in_order = sum(case == sorted(case) for case in part) / len(part)
        assert in_order < 0.3


def test_split_follows_the_seed(puzzles):
    assert split_puzzles(puzzles, seed=1) == split_puzzles(puzzles, seed=1)
    assert split_puzzles(puzzles, seed=1) != split_puzzles(puzzles, seed=2)


def test_small_games_keep_most_puzzles_for_training():
    puzzles = solvable_puzzles(numbers=3, max_number=9)
    train, test = split_puzzles(puzzles)
    assert len(test) == len(puzzles) // 5 < 100
    assert len(train) == len(puzzles) - len(test)


@pytest.mark.parametrize(
    ("numbers", "solvable"),
    [((3, 3, 8, 8), True), ((1, 5, 5, 5), True), ((1, 1, 1, 1), False), ((13, 13, 13, 13), False), ((4, 6), True)],
)
def test_known_puzzles(numbers, solvable):
    assert is_solvable(numbers) is solvable


def naive_values(numbers: tuple[Fraction, ...]) -> set[Fraction]:
    """Every value by trying all orders of joining the first two cards."""
    if len(numbers) == 1:
        return {numbers[0]}
    values = set()
    for a, b, *rest in permutations(numbers):
        for value in [a + b, a - b, a * b, *([a / b] if b else [])]:
            values |= naive_values((value, *rest))
    return values


@given(st.lists(st.integers(0, 13), min_size=2, max_size=3), st.integers(0, 40))
def test_solver_agrees_with_a_naive_one(numbers, target):
    expected = Fraction(target) in naive_values(tuple(map(Fraction, numbers)))
    assert is_solvable(numbers, target) is expected


@given(st.fractions(max_denominator=50), st.fractions(max_denominator=50))
def test_combine_agrees_with_fractions(a, b):
    for operator, swapped, value in combine((a.numerator, a.denominator), (b.numerator, b.denominator)):
        x, y = (b, a) if swapped else (a, b)
        expected = {"+": add, "-": sub, "*": mul, "/": truediv}[operator](x, y)
        assert value == (expected.numerator, expected.denominator)


def test_reduce_ratio_keeps_the_sign_above():
    assert reduce_ratio(6, -4) == (-3, 2)
    assert reduce_ratio(0, -5) == (0, 1)


def test_impossible_games_are_refused():
    with pytest.raises(ValueError, match="numbers=1"):
        solvable_puzzles(numbers=1)
