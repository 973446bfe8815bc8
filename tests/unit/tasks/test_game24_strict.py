"""The strict checker on rows worked by hand. Weights .55, .3, .15; length part 1 up to 4 lines, .97812 at 5, .97340 at 6."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.game24.puzzles import combine
from openrlhf_ext.tasks.game24.reach import can_reach

STRICT = make_task({"name": "game24"})

SOLVED_4611 = [
    "(4) * (6) = 24, left: (4 * 6) = 24, 1, 1",
    "(24) * (1) = 24, left: ((4 * 6) * 1) = 24, 1",
    "(24) / (1) = 24, left: (((4 * 6) * 1) / 1) = 24",
    "reach 24! expression: (((4 * 6) * 1) / 1)",
]
DETOUR_4611 = ["(1) + (1) = 2, left: (1 + 1) = 2, 4, 6", "roll back, left: 4 6 1 1"]
VALUES_4611 = ["(4) * (6) = 24, left: 24, 1, 1", "(24) * (1) = 24, left: 24, 1", "(24) / (1) = 24, left: 24"]

GOLDEN = {
    # name: (numbers, lines, outcome, process, length, reward)
    "solution": ((4, 6, 1, 1), SOLVED_4611, 1, 1, 1, 1.0),
    "trailing blank lines are ignored": ((4, 6, 1, 1), [*SOLVED_4611, "", "  "], 1, 1, 1, 1.0),
    "a roll-back to the root": ((4, 6, 1, 1), DETOUR_4611 + SOLVED_4611, 1, 1, 0.97340, 0.99601),
    "identical legal lines are no error": ((4, 6, 1, 1), 2 * DETOUR_4611 + SOLVED_4611, 1, 1, 0.96083, 0.99412),
    "wrong result, but the printed state is right": (
        (4, 6, 1, 1),
        ["(4) * (6) = 25, left: (4 * 6) = 24, 1, 1", *SOLVED_4611[1:]],
        1,
        0.75,
        1,
        0.925,
    ),
    "wrong result and a printed state that nothing reaches": (
        (4, 6, 1, 1),
        ["(4) * (6) = 25, left: (4 * 6) = 25, 1, 1", *SOLVED_4611[1:]],
        1,
        0,
        1,
        0.7,
    ),
    "a missing roll-back": ((4, 6, 1, 1), [DETOUR_4611[0], *SOLVED_4611], 1, 0.8, 0.97812, 0.93672),
    "implicit roll-back of format v1": (
        (4, 6, 1, 1),
        ["(1) + (1) = 2, left: 2, 4, 6", *VALUES_4611, SOLVED_4611[-1]],
        1,
        1,
        0.97812,
        0.99672,
    ),
    "roll-back that changes nothing, three times": ((8, 10, 8, 7), ["roll back, left: 8 10 8 7"] * 3, 0, 0, 1, 0.15),
    "roll-back to a state that never was": (
        (4, 6, 1, 1),
        [DETOUR_4611[0], "roll back, left: 4 6 1 2", *SOLVED_4611],
        1,
        1 / 6,
        0.97340,
        0.74601,
    ),
    "final line with other numbers": (
        (4, 1, 9, 4),
        [
            "(4) + (1) = 5, left: (4 + 1) = 5, 9, 4",
            "(5) + (9) = 14, left: ((4 + 1) + 9) = 14, 4",
            "(14) + (4) = 18, left: (((4 + 1) + 9) + 4) = 18",
            "reach 24! expression: (9 + 15)",
        ],
        0,
        0.75,
        1,
        0.375,
    ),
    "something after the final line": ((4, 6, 1, 1), [*SOLVED_4611, "done"], 0, 0.6, 0.97812, 0.32672),
    "no final line": ((4, 6, 1, 1), SOLVED_4611[:3], 0, 1, 1, 0.45),
    "final line without its steps": ((4, 6, 1, 1), SOLVED_4611[-1:], 1, 0, 1, 0.7),
    "empty": ((4, 6, 1, 1), [""], 0, 0, 1, 0.15),
    "fractions": (
        (5, 13, 7, 9),
        [
            "(7) / (9) = 7/9, left: (7 / 9) = 7/9, 5, 13",
            "(7/9) / (13) = 7/117, left: ((7 / 9) / 13) = 7/117, 5",
            "roll back, left: (7 / 9) = 7/9, 5, 13",
        ],
        0,
        1,
        1,
        0.45,
    ),
    "negative values": (
        (5, 13, 7, 9),
        ["(5) - (13) = -8, left: (5 - 13) = -8, 7, 9", "(-8) * (7) = -56, left: ((5 - 13) * 7) = -56, 9"],
        0,
        1,
        1,
        0.45,
    ),
    "unreduced fraction": ((4, 6, 1, 1), ["(4) / (6) = 4/6, left: (4 / 6) = 4/6, 1, 1"], 0, 0, 1, 0.15),
    "card made of other numbers": ((4, 6, 1, 1), ["(4) * (6) = 24, left: (8 * 3) = 24, 1, 1"], 0, 0, 1, 0.15),
    "card that does not equal its value": (
        (4, 6, 1, 1),
        ["(4) * (6) = 24, left: (4 + 6) = 24, 1, 1"],
        0,
        0,
        1,
        0.15,
    ),
    "operands that are not there": ((4, 6, 1, 1), ["(4) * (7) = 28, left: 28, 1, 1"], 0, 0, 1, 0.15),
    "the untouched cards in another order": ((4, 6, 1, 1), ["(4) + (1) = 5, left: 1, (4 + 1) = 5, 6"], 0, 1, 1, 0.45),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    numbers, lines, outcome, process, length, reward = GOLDEN[name]
    verdict = STRICT.verify("\n".join(lines), {"numbers": list(numbers), "target": 24})
    assert verdict.metrics["outcome"] == outcome
    assert verdict.metrics["process"] == pytest.approx(process)
    assert verdict.metrics["length"] == pytest.approx(length, abs=1e-5)
    assert verdict.reward == pytest.approx(reward, abs=1e-5)
    assert verdict.correct is (outcome == 1)


def test_roll_back_may_skip_levels_but_only_along_the_path():
    down = [
        "(1) + (1) = 2, left: (1 + 1) = 2, 4, 6",
        "(2) + (4) = 6, left: ((1 + 1) + 4) = 6, 6",
    ]
    label = {"numbers": [4, 6, 1, 1], "target": 24}
    to_root = STRICT.verify("\n".join([*down, "roll back, left: 4 6 1 1"]), label)
    sideways = STRICT.verify("\n".join([*down, "roll back, left: (1 * 1) = 1, 4, 6"]), label)
    assert to_root.metrics["process"] == 1
    assert sideways.metrics["process"] == pytest.approx(2 / 3)


def test_after_an_error_the_stack_holds_only_ancestors_of_the_printed_state():
    """1 + 1 and then, without a roll-back, 4 * 6: the roll-back to the root is right, one to the state of 1 + 1 is not."""
    start = ["(1) + (1) = 2, left: (1 + 1) = 2, 4, 6", "(4) * (6) = 24, left: (4 * 6) = 24, 1, 1"]
    label = {"numbers": [4, 6, 1, 1], "target": 24}
    for line, process in [("roll back, left: 4 6 1 1", 2 / 3), ("roll back, left: (1 + 1) = 2, 4, 6", 1 / 3)]:
        assert STRICT.verify("\n".join([*start, line]), label).metrics["process"] == pytest.approx(process)


@pytest.mark.parametrize(
    ("numbers", "expression"),
    [
        ((2, 4, 1, 0), "2_4 + 1*0"),
        ((1, 5, 16, 0), "1.5 * 16 + 0"),
        ((2, 1, 4), "2e1 + 4"),
        ((2, 3, 1, 3), "(2 ** 3) * (3 ** 1)"),
        ((25, 1, 1), "(25 // 1) - 1"),
        ((1, 25), "-1 + 25"),
        ((4, 6), "4 * 6 #"),
        ((4, 6), "4 * 6 if True else 0"),
        ((4, 6), "__import__('os').getpid() * 0 + 4 * 6"),
        ((4, 6, 0), "4 * 6 / 0"),
        ((4, 6), "(4 * 6"),
        ((4, 6), ""),
        ((4, 6), "(" * 5000 + "4 * 6" + ")" * 5000),
        ((4, 6), "4 * 6 * " + "1" * 5000),
        ((4, 6), "４ * 6"),
    ],
)
def test_number_tricks_earn_no_outcome(numbers, expression):
    verdict = STRICT.verify(f"reach 24! expression: {expression}", {"numbers": list(numbers), "target": 24})
    assert not verdict.correct
    assert verdict.metrics["outcome"] == verdict.metrics["process"] == 0


@pytest.mark.parametrize("line", ["(1) + (1) = 7, left: (4 * 6) = 24, 1, 1", "hocus, left: 4 6 1 1"])
def test_process_tricks_earn_no_process(line):
    assert STRICT.verify(line, {"numbers": [4, 6, 1, 1], "target": 24}).metrics["process"] == 0


def test_other_targets():
    task = make_task({"name": "game24"})
    label = {"numbers": [2, 5], "target": 10}
    good = "(2) * (5) = 10, left: (2 * 5) = 10\nreach 10! expression: (2 * 5)"
    assert task.verify(good, label).reward == 1
    assert not task.verify(good.replace("reach 10!", "reach 24!"), label).correct


def test_overlong_responses_earn_nothing_and_are_not_read():
    task = make_task({"name": "game24", "max_response_chars": 50})
    verdict = task.verify("\n".join(SOLVED_4611), {"numbers": [4, 6, 1, 1], "target": 24})
    assert (verdict.reward, verdict.correct, verdict.parsed) == (0, False, False)
    assert tuple(verdict.metrics) == task.metric_keys


LINE = st.one_of(
    st.sampled_from(
        [*SOLVED_4611, *DETOUR_4611, *VALUES_4611, "", "left: ", "roll back, left: ", "reach 24! expression: "]
    ),
    st.text(max_size=30),
    st.text(alphabet="0123456789()+-*/=, left:rob", max_size=40),
    st.builds(
        "({}) {} ({}) = {}, left: {}".format, *[st.sampled_from(["1", "4", "6", "-2", "7/0", "4/6", "+", "*", "/"])] * 5
    ),
)


@given(st.lists(LINE, max_size=12), st.sampled_from(["strict", "compatible"]))
def test_no_text_raises(lines, checker):
    task = make_task({"name": "game24", "checker": checker})
    verdict = task.verify("\n".join(lines), {"numbers": [4, 6, 1, 1], "target": 24})
    assert tuple(verdict.metrics) == task.metric_keys
    assert verdict.correct is (verdict.metrics["outcome"] == 1)
    if checker == "strict":
        assert 0 <= verdict.metrics["process"] <= 1


def naive_reach(start: tuple[Fraction, ...]) -> set[tuple[Fraction, ...]]:
    """Every state that steps lead to, by trying all of them."""
    found, open_states = set(), [tuple(sorted(start))]
    while open_states:
        state = open_states.pop()
        if state in found:
            continue
        found.add(state)
        for i in range(len(state)):
            for j in range(i + 1, len(state)):
                a, b = ((value.numerator, value.denominator) for value in (state[i], state[j]))
                rest = [card for k, card in enumerate(state) if k not in (i, j)]
                open_states += [tuple(sorted([*rest, Fraction(*value)])) for _, _, value in combine(a, b)]
    return found


@given(st.lists(st.integers(1, 6), min_size=2, max_size=4), st.data())
def test_reach_agrees_with_a_naive_search(numbers, data):
    start = tuple(map(Fraction, numbers))
    reachable = naive_reach(start)
    state = data.draw(st.sampled_from(sorted(reachable)))
    assert can_reach(start, state)
    other = tuple(sorted(value + data.draw(st.sampled_from([0, 1])) for value in state))
    assert can_reach(start, other) is (other in reachable)
