"""Cutting texts into steps and finding the tokens that begin them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.data.steps import MATH_DELIMITERS, split_after, step_starts


def offsets_of(pieces: list[str]) -> list[tuple[int, int]]:
    ends = [sum(map(len, pieces[: i + 1])) for i in range(len(pieces))]
    return [(end - len(piece), end) for piece, end in zip(pieces, ends, strict=True)]


def test_lines_and_sentences() -> None:
    assert split_after("a. b\nc.5 $d.$ e", ["\n"]) == ["a. b\n", "c.5 $d.$ e"]
    assert split_after("a. b\nc.5 $d.$ e", MATH_DELIMITERS) == ["a. ", "b\n", "c.5 $d.$ ", "e"]
    assert split_after("a\n\nb", ["\n", "\n\n"]) == ["a\n\n", "b"]
    assert split_after("", ["\n"]) == []


@given(st.text("a.$ \n"), st.lists(st.sampled_from(["\n", ". ", ".$ ", "a"]), min_size=1))
def test_pieces_spell_the_text_and_none_is_empty(text: str, delimiters: list[str]) -> None:
    pieces = split_after(text, delimiters)
    assert "".join(pieces) == text and all(pieces)
    assert all(piece.endswith(tuple(delimiters)) for piece in pieces[:-1])


@pytest.mark.parametrize(
    ("pieces", "want"),
    [
        (["1+1", "=2", "\n", "####", " 2"], [0, 3]),
        (["1+1", "=2\n", "####", " 2"], [0, 2]),
        (["1+1=2", "\n####", " 2"], [0, 1]),  # a token that holds the newline and the next word opens the next step
        (["a", "\n\n", "b"], [0, 2]),
        (["a", "\n", "\n", "b"], [0, 3]),  # blank lines are no steps, however they are tokenised
        (["\n", "a", "\n", "b", ""], [0, 3]),  # the last piece is an end token
        ([""], []),
    ],
)
def test_starts_of_lines(pieces: list[str], want: list[int]) -> None:
    text = "".join(pieces)
    assert step_starts(text, offsets_of(pieces), split_after(text, ["\n"])) == want


def test_a_sentence_opens_with_the_token_that_carries_its_space() -> None:
    pieces = ["It", " is", " 2", ".", " So", " $x.$", " Done"]
    text = "".join(pieces)
    assert step_starts(text, offsets_of(pieces), split_after(text, MATH_DELIMITERS)) == [0, 4, 6]


def test_steps_must_spell_the_text() -> None:
    with pytest.raises(ValueError, match="must keep every character"):
        step_starts("a\nb", [(0, 3)], ["a", "b"])
    with pytest.raises(ValueError, match="at least one character"):
        split_after("a", [""])
