"""Levenshtein distance of two texts: insertions, deletions and exchanges of single characters.

rapidfuzz is used where it is installed; otherwise the bit-parallel algorithm of Myers (1999) in Hyyro's form (2001), whose columns are
Python integers: exact for any length, one pass over the longer text. Both give the same numbers.
"""

from collections.abc import Callable
from functools import lru_cache


def distance(a: str, b: str) -> int:
    """How many single-character edits turn one text into the other."""
    return _fastest()(a, b)


def normalised(a: str, b: str) -> float:
    """Edits over the mean length of the two texts; 0 = equal. Two empty texts are equal."""
    return 2 * distance(a, b) / (len(a) + len(b)) if a or b else 0.0


def bit_parallel(a: str, b: str) -> int:
    """The distance in pure Python. Bit i of `up` (`down`) says that the distance grows (falls) from row i to row i + 1 of a column."""
    if len(a) > len(b):
        a, b = b, a
    if not a:
        return len(b)
    rows = len(a)
    everything, last = (1 << rows) - 1, 1 << (rows - 1)
    places: dict[str, int] = {}
    for row, character in enumerate(a):
        places[character] = places.get(character, 0) | 1 << row
    up, down, total = everything, 0, rows
    for character in b:
        here = places.get(character, 0)
        same = here | down
        diagonal = (((here & up) + up) ^ up) | here | down
        right_up = down | ~(diagonal | up) & everything
        right_down = up & diagonal
        total += bool(right_up & last) - bool(right_down & last)
        right_up = (right_up << 1 | 1) & everything
        right_down = right_down << 1 & everything
        up = right_down | ~(same | right_up) & everything
        down = right_up & same
    return total


@lru_cache(maxsize=1)
def _fastest() -> Callable[[str, str], int]:
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        return bit_parallel
    return Levenshtein.distance
