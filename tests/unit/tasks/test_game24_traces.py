import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.game24 import traces
from openrlhf_ext.tasks.game24.puzzles import solvable_puzzles

STRICT = make_task({"name": "game24"})
PUZZLES = solvable_puzzles()

V3 = """\
(13) - (7) = 6, left: (13 - 7) = 6, 5, 9
(6) - (5) = 1, left: ((13 - 7) - 5) = 1, 9
roll back, left: (13 - 7) = 6, 5, 9
roll back, left: 5 13 7 9
(7) / (9) = 7/9, left: (7 / 9) = 7/9, 5, 13
reach 24! expression: ((13 - 7) * (9 - 5))"""
V2 = """\
(13) - (7) = 6, left: 6, 5, 9
(6) - (5) = 1, left: 1, 9
roll back, left: 6, 5, 9
roll back, left: 5 13 7 9
(7) / (9) = 7/9, left: 7/9, 5, 13
reach 24! expression: ((13 - 7) * (9 - 5))"""
V1 = """\
(13) - (7) = 6, left: 6, 5, 9
(6) - (5) = 1, left: 1, 9
(7) / (9) = 7/9, left: 7/9, 5, 13
reach 24! expression: ((13 - 7) * (9 - 5))"""


def trace(numbers, nodes: int, seed: int) -> tuple[traces.SearchTree, str]:
    rng = random.Random(seed)
    tree = traces.search(numbers, rng)
    return tree, traces.render(tree, traces.prune(tree, nodes, rng))


def test_rewrites():
    assert traces.rewrite(V3, "v3") == V3
    assert traces.rewrite(V3, "v2") == V2
    assert traces.rewrite(V3, "v1") == V1


def test_unknown_format():
    with pytest.raises(ValueError, match="v1, v2, v3"):
        traces.rewrite(V3, "v4")


def hand_made_tree() -> traces.SearchTree:
    """Root 4 6 1: a dead branch of two nodes, then the solution."""
    one, four, six = ((1, 1), 1), ((4, 1), 4), ((6, 1), 6)
    ten = ((10, 1), (4, "+", 6))
    eleven = ((11, 1), ((4, "+", 6), "+", 1))
    product = ((24, 1), (4, "*", 6))
    answer = ((24, 1), ((4, "*", 6), "*", 1))
    return traces.SearchTree(
        parents=[-1, 0, 1, 0, 3],
        states=[(four, six, one), (ten, one), (eleven,), (product, one), (answer,)],
        moves=[None, (four, "+", six), (ten, "+", one), (four, "*", six), (product, "*", one)],
        path=[0, 3, 4],
        target=24,
    )


def test_render_by_hand():
    tree = hand_made_tree()
    assert tree.node_count == 7
    assert traces.render(tree, range(5)).split("\n") == [
        "(4) + (6) = 10, left: (4 + 6) = 10, 1",
        "(10) + (1) = 11, left: ((4 + 6) + 1) = 11",
        "roll back, left: (4 + 6) = 10, 1",
        "roll back, left: 4 6 1",
        "(4) * (6) = 24, left: (4 * 6) = 24, 1",
        "(24) * (1) = 24, left: ((4 * 6) * 1) = 24",
        "reach 24! expression: ((4 * 6) * 1)",
    ]


def test_prune_deletes_leaves_only_and_exactly_to_the_threshold():
    tree = hand_made_tree()
    assert traces.prune(tree, 7, random.Random(0)) == [0, 1, 2, 3, 4]  # nothing goes from a tree that is small enough
    assert traces.prune(tree, 6, random.Random(0)) == [0, 1, 3, 4]  # the inner node stays while its leaf goes
    assert traces.prune(tree, 5, random.Random(0)) == traces.prune(tree, 1, random.Random(0)) == [0, 3, 4]


@given(st.sampled_from(PUZZLES), st.integers(6, 17), st.integers(0, 10**6))
def test_line_law(puzzle, nodes, seed):
    """K nodes make 4 + 2 (K - 6) lines, unless the search itself was shorter."""
    tree, text = trace(puzzle, nodes, seed)
    assert text.count("\n") + 1 == 4 + 2 * (min(nodes, tree.node_count) - 6)


@given(st.sampled_from(PUZZLES), st.integers(6, 17), st.integers(0, 10**6), st.sampled_from(traces.FORMATS))
def test_every_trace_is_right(puzzle, nodes, seed, form):
    _, text = trace(puzzle, nodes, seed)
    verdict = STRICT.verify(traces.rewrite(text, form), {"numbers": list(puzzle), "target": 24})
    assert verdict.correct and verdict.parsed
    assert verdict.metrics["outcome"] == verdict.metrics["process"] == 1


@given(st.sampled_from(PUZZLES), st.integers(8, 17), st.integers(0, 10**6), st.data())
def test_a_changed_number_is_noticed(puzzle, nodes, seed, data):
    """The control of the test above: one wrong result anywhere costs at least one line."""
    _, text = trace(puzzle, nodes, seed)
    lines = text.split("\n")
    steps = [at for at, line in enumerate(lines) if line.startswith("(")]
    at = data.draw(st.sampled_from(steps))
    head, equals, tail = lines[at].partition(" = ")
    lines[at] = head + equals + "1" + tail
    verdict = STRICT.verify("\n".join(lines), {"numbers": list(puzzle), "target": 24})
    assert verdict.metrics["process"] < 1


@given(st.sampled_from(PUZZLES), st.integers(6, 17), st.integers(0, 10**6))
def test_formats_agree(puzzle, nodes, seed):
    _, v3 = trace(puzzle, nodes, seed)
    v2, v1 = traces.rewrite(v3, "v2"), traces.rewrite(v3, "v1")
    assert traces.rewrite(v2, "v1") == v1
    assert v3.count("\n") == v2.count("\n")
    assert v1.split("\n") == [line for line in v2.split("\n") if not line.startswith("roll back")]
    assert v1.split("\n")[-1] == v2.split("\n")[-1] == v3.split("\n")[-1]
    assert "=" not in "".join(line.partition("left: ")[2] for line in v2.split("\n"))


def test_negative_and_fractional_values_are_written_as_the_grammar_says():
    minus = ((-8, 1), (5, "-", 13))
    ratio = ((7, 117), ((7, "/", 9), "/", 13))
    assert traces.state_text((minus, ratio, ((3, 1), 3))) == "(5 - 13) = -8, ((7 / 9) / 13) = 7/117, 3"


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="cannot make 24"):
        traces.search((1, 1, 1, 1), random.Random(0))
