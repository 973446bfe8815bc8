"""All solvable puzzles of the game and their split into train and test.

With 4 numbers from 1..13 and target 24 there are 1820 multisets, 1362 of them solvable; the split is 1262 train + 100 test.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations_with_replacement
from math import gcd

TEST_PUZZLES = 100
Ratio = tuple[int, int]


def reduce_ratio(numerator: int, denominator: int) -> Ratio:
    """The fraction in lowest terms with a positive denominator."""
    common = gcd(numerator, denominator)
    if denominator < 0:
        common = -common
    return numerator // common, denominator // common


def combine(a: Ratio, b: Ratio) -> list[tuple[str, bool, Ratio]]:
    """The legal results of joining two numbers: (operator, operands swapped, value), at most six."""
    (p, q), (r, s) = a, b
    results = [
        ("+", False, reduce_ratio(p * s + r * q, q * s)),
        ("-", False, reduce_ratio(p * s - r * q, q * s)),
        ("-", True, reduce_ratio(r * q - p * s, q * s)),
        ("*", False, reduce_ratio(p * r, q * s)),
    ]
    if r:
        results.append(("/", False, reduce_ratio(p * s, q * r)))
    if p:
        results.append(("/", True, reduce_ratio(r * q, s * p)))
    return results


@lru_cache(maxsize=200_000)
def _solvable(cards: tuple[Ratio, ...], target: int) -> bool:
    if len(cards) == 1:
        return cards[0] == (target, 1)
    for i in range(len(cards)):
        for j in range(i + 1, len(cards)):
            rest = [card for k, card in enumerate(cards) if k != i and k != j]
            for _, _, value in combine(cards[i], cards[j]):
                if _solvable(tuple(sorted([*rest, value])), target):
                    return True
    return False


def is_solvable(numbers: Sequence[int], target: int = 24) -> bool:
    """Whether some expression over all the numbers equals the target exactly."""
    return _solvable(tuple(sorted((number, 1) for number in numbers)), target)


def solvable_puzzles(numbers: int = 4, max_number: int = 13, target: int = 24) -> list[tuple[int, ...]]:
    """Every solvable multiset of `numbers` integers from 1..max_number, each sorted, in lexicographic order."""
    if numbers < 2 or max_number < 1:
        raise ValueError(f"numbers={numbers}, max_number={max_number}: need at least 2 numbers from 1..1 or more")
    multisets = combinations_with_replacement(range(1, max_number + 1), numbers)
    return [multiset for multiset in multisets if is_solvable(multiset, target)]


def split_puzzles(
    puzzles: Sequence[tuple[int, ...]], seed: int = 42, test: int = TEST_PUZZLES
) -> tuple[list[list[int]], list[list[int]]]:
    """(train, test) in shuffled order, the digits of every puzzle shuffled too; no multiset is in both.

    The test split holds `test` puzzles, but never more than a fifth of a small game.
    """
    rng = random.Random(seed)
    shuffled = [list(puzzle) for puzzle in puzzles]
    rng.shuffle(shuffled)
    for puzzle in shuffled:
        rng.shuffle(puzzle)
    held_out = min(test, len(shuffled) // 5)
    return shuffled[held_out:], shuffled[:held_out]
