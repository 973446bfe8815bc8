import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.data.edit_distance import distance, normalised


def by_table(a: str, b: str) -> int:
    """The textbook's table, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("same", "same", 0), ("ab", "ba", 2)],
)
def test_known_distances(a, b, edits):
    assert distance(a, b) == distance(b, a) == edits


@given(st.text("abc\n", max_size=90), st.text("abc\n", max_size=90))
def test_it_is_the_distance_of_the_table(a, b):
    assert distance(a, b) == by_table(a, b)


def test_share_of_the_mean_length():
    assert normalised("abcd", "abcdef") == 2 / 5
    assert normalised("", "") == 0 and normalised("", "ab") == 2
