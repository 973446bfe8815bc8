"""Which states legal arithmetic can reach: every card of the later state is made from its own cards of the earlier one."""

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import combinations

from openrlhf_ext.tasks.game24.puzzles import Ratio, combine

Values = tuple[Fraction, ...]


def can_reach(start: Values, state: Values) -> bool:
    """Whether zero or more legal steps lead from the cards `start` to the cards `state` (order does not matter)."""
    cards = tuple(sorted((value.numerator, value.denominator) for value in start))
    goals = tuple(sorted((value.numerator, value.denominator) for value in state))
    return len(goals) <= len(cards) and _reaches(cards, goals)


def _reaches(cards: tuple[Ratio, ...], goals: tuple[Ratio, ...]) -> bool:
    if len(goals) == 1:
        return goals[0] in _makeable(cards)
    for group, rest in _splits(cards):
        if len(rest) >= len(goals) - 1 and goals[0] in _makeable(group) and _reaches(rest, goals[1:]):
            return True
    return False


def _splits(cards: tuple[Ratio, ...]) -> Iterator[tuple[tuple[Ratio, ...], tuple[Ratio, ...]]]:
    indices = range(len(cards))
    for size in range(1, len(cards)):
        for chosen in combinations(indices, size):
            yield tuple(cards[i] for i in chosen), tuple(cards[i] for i in indices if i not in chosen)


@lru_cache(maxsize=512)
def _makeable(cards: tuple[Ratio, ...]) -> frozenset[Ratio]:
    """Every value of an expression that uses each card exactly once."""
    if len(cards) == 1:
        return frozenset(cards)
    values: set[Ratio] = set()
    for group, rest in _splits(cards):
        if len(group) <= len(rest):
            for a in _makeable(group):
                for b in _makeable(rest):
                    values.update(value for _, _, value in combine(a, b))
    return frozenset(values)
