"""Start states: the published rule, exact cuts, the weights of short demonstrations, the order of the rows."""

import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.data.reverse import (
    Demonstration,
    arranged,
    line_ends,
    prefix_lengths,
    sentence_ends,
    start_states,
    token_ends,
)

RULE_TABLE = {
    0: [0, 0, 0, 0, 0],
    1: [0, 0, 0, 0, 0],
    2: [0, 0, 1, 1, 1],
    3: [0, 1, 1, 2, 2],
    4: [0, 1, 2, 2, 3],
    5: [0, 1, 2, 3, 4],
    6: [0, 1, 2, 4, 5],
    7: [0, 1, 3, 4, 6],
    8: [0, 2, 3, 5, 6],
    9: [0, 2, 4, 5, 7],
    10: [0, 2, 4, 6, 8],
}


def demonstration(rationale: str = "a\nb\nc\n", ending: str = "#### 3", name: str = "d") -> Demonstration:
    return Demonstration(name, "Which?", rationale, ending, {"answer": "3"})


@pytest.mark.parametrize(("units", "lengths"), RULE_TABLE.items())
def test_the_published_table(units: int, lengths: list[int]) -> None:
    assert prefix_lengths(units) == lengths


@pytest.mark.parametrize(("units", "weights"), [(2, [2, 3]), (3, [1, 2, 2]), (4, [1, 1, 2, 1])])
def test_short_demonstrations_weight_the_mixture(units: int, weights: list[int]) -> None:
    counts = Counter(prefix_lengths(units))
    assert [counts[k] for k in range(units)] == weights


def naive_lengths(units: int, stages: int) -> list[int]:
    """The rule in exact fractions, ties to the even number."""
    lengths = []
    for i in range(stages):
        share = Fraction(i * units, stages)
        below = math.floor(share)
        rest = share - below
        up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1)
        lengths.append(max(0, min(units - 1, below + up)))
    return lengths


@given(st.integers(0, 400), st.integers(1, 12))
def test_the_rule_in_exact_fractions(units: int, stages: int) -> None:
    lengths = prefix_lengths(units, stages)
    assert lengths == naive_lengths(units, stages)
    assert lengths[0] == 0 and lengths == sorted(lengths)
    assert all(0 <= k <= max(units - 1, 0) for k in lengths)


@given(st.integers(0, 10_000), st.integers(0, 4))
def test_five_stages_have_no_tie(units: int, stage: int) -> None:
    assert Fraction(stage * units, 5) % 1 != Fraction(1, 2)


def test_other_numbers_of_stages_would_not_give_the_table() -> None:
    for stages in (4, 6, 8):
        assert any(set(prefix_lengths(units, stages)) != set(lengths) for units, lengths in RULE_TABLE.items())


@pytest.mark.parametrize(("units", "stages"), [(-1, 5), (3, 0)])
def test_impossible_rules_are_refused(units: int, stages: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        prefix_lengths(units, stages)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("", []),
        ("one", [3]),
        ("one\n", [4]),
        ("one\ntwo\n", [4, 8]),
        ("one\n\ntwo", [4, 5, 8]),
        ("a\r\nb\u2028c", [3, 6]),
    ],
)
def test_lines(text: str, ends: list[int]) -> None:
    assert line_ends(text) == ends


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("No stop", ["No stop"]),
        ("One. Two.", ["One. ", "Two."]),
        (
            'so the answer is "no". And  then? "Yes!"  End. ',
            ['so the answer is "no". ', "And  then? ", '"Yes!"  ', "End. "],
        ),
        ("A ball of 33.3 x 39.2 inches fits. Rule2 holds", ["A ball of 33.3 x 39.2 inches fits. ", "Rule2 holds"]),
        ('He said "stop." Then left...\nGone', ['He said "stop." ', "Then left...\n", "Gone"]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    bounds = [0, *sentence_ends(text)]
    assert [text[left:right] for left, right in pairwise(bounds)] == sentences


@pytest.mark.parametrize(
    ("text", "offsets", "ends"),
    [
        ("arcade", [(0, 2), (2, 6)], [2, 6]),
        ("one two", [(0, 3), (3, 7)], [3, 7]),
        ("one two", [(0, 3), (4, 7)], [3, 7]),  # the blank belongs to no token: it opens the completion
        ("a€b", [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)], [1, 2, 3]),  # three bytes of one letter
        ("a€", [(0, 1), (1, 2), (1, 2)], [1, 2]),
        ("ab", [(0, 0), (0, 1), (1, 2), (0, 0)], [1, 2]),  # tokens without characters
        ("one ", [(0, 3)], [4]),
        ("", [], []),
    ],
)
def test_tokens(text: str, offsets: list[tuple[int, int]], ends: list[int]) -> None:
    assert token_ends(text, offsets) == ends


def test_start_states_of_three_lines() -> None:
    states = start_states(demonstration(), [2, 4, 6])
    assert [(s.stage, s.prefix_units, s.units) for s in states] == [
        (0, 0, 3),
        (1, 1, 3),
        (2, 1, 3),
        (3, 2, 3),
        (4, 2, 3),
    ]
    assert [s.prefix for s in states] == ["", "a\n", "a\n", "a\nb\n", "a\nb\n"]
    assert [s.completion for s in states] == [
        "a\nb\nc\n#### 3",
        "b\nc\n#### 3",
        "b\nc\n#### 3",
        "c\n#### 3",
        "c\n#### 3",
    ]


@pytest.mark.parametrize("rationale", ["", "only\n"])
def test_fewer_than_two_units_start_from_the_question(rationale: str) -> None:
    states = start_states(demonstration(rationale), line_ends(rationale), stages=3)
    assert [s.prefix_units for s in states] == [0, 0, 0]
    assert all(s.prefix == "" and s.completion == rationale + "#### 3" for s in states)


@given(st.text("ab \n.€", max_size=40), st.integers(1, 9), st.sampled_from([line_ends, sentence_ends]))
def test_prefix_and_completion_are_the_demonstration(rationale: str, stages: int, ends_of) -> None:
    gold = demonstration(rationale)
    ends = ends_of(rationale)
    for state in start_states(gold, ends, stages):
        assert state.prefix + state.completion == gold.text
        assert state.prefix == rationale[: ([0, *ends])[state.prefix_units]]
        assert state.completion.endswith("#### 3")
        assert not rationale or len(state.prefix) < len(rationale)


@pytest.mark.parametrize("ends", [[], [2, 4], [4, 2, 6], [2, 2, 6], [2, 7]])
def test_ends_that_do_not_cover_the_rationale_are_refused(ends: list[int]) -> None:
    with pytest.raises(ValueError, match="6 characters"):
        start_states(demonstration(), ends)


def all_states() -> list:
    return [state for n in range(12) for state in start_states(demonstration(name=f"d{n}"), [2, 4, 6])]


def key(state) -> tuple[str, int]:
    return state.demonstration.id, state.stage


def test_mixed_holds_every_pair_once_in_an_order_of_the_seed() -> None:
    mixed, again, other = (list(map(key, arranged(all_states(), "mixed", seed))) for seed in (1, 1, 2))
    assert sorted(mixed) == sorted(map(key, all_states())) and len(set(mixed)) == 60
    assert mixed == again != other
    assert mixed != list(map(key, all_states()))


def test_staged_walks_from_the_end_to_the_question_and_plain_is_its_last_stage() -> None:
    mixed, staged, plain = (list(map(key, arranged(all_states(), mode))) for mode in ("mixed", "staged", "plain"))
    assert [stage for _, stage in staged] == [4] * 12 + [3] * 12 + [2] * 12 + [1] * 12 + [0] * 12
    assert sorted(staged) == sorted(mixed)
    assert plain == staged[-12:] == [pair for pair in mixed if pair[1] == 0]


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one of mixed, staged, plain"):
        arranged(all_states(), "adaptive")
