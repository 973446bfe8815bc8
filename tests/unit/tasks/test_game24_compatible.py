"""The published rules: golden rewards (weights .55, .3, .15) and the defects that are kept."""

import pytest

from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.game24.python_value import NoValue, python_value

COMPATIBLE = make_task({"name": "game24", "checker": "compatible"})
ROLL_BACK = "roll back, left: 8 10 8 7"


def steps_of_9666() -> list[str]:
    """23 lines: 11 tries from the root (the first one repeated) with their roll-backs, and one more step."""
    results = ["6 + 6 = 12", "6 - 6 = 0", "6 * 6 = 36", "6 / 6 = 1", "9 + 6 = 15", "9 - 6 = 3", "6 - 9 = -3"]
    results += ["9 * 6 = 54", "9 / 6 = 3/2", "6 / 9 = 2/3"]
    lines = []
    for result in [results[0], *results]:
        x, operator, y, _, z = result.split()
        rest = "9, 6" if (x, y) == ("6", "6") else "6, 6"
        lines.append(f"({x}) {operator} ({y}) = {z}, left: ({x} {operator} {y}) = {z}, {rest}")
        lines.append("roll back, left: 9 6 6 6")
    return [*lines, "(6) + (6) = 12, left: (6 + 6) = 12, 6, 9"]


GOLDEN = {
    # name: (numbers, lines, lines n, process, outcome, length, reward)
    "solved": (
        (13, 2, 2, 2),
        [
            "(13) - (2) = 11, left: (13 - 2) = 11, 2, 2",
            "(11) * (2) = 22, left: ((13 - 2) * 2) = 22, 2",
            "(22) + (2) = 24, left: (((13 - 2) * 2) + 2) = 24",
            "reach 24! expression: (((13 - 2) * 2) + 2)",
        ],
        (4, 1, 1, 1, 1.0),
    ),
    "third card wrong, no final": (
        (5, 7, 9, 13),
        [
            "(9) / (13) = 9/13, left: (9 / 13) = 9/13, 5, 7",
            "(9/13) / (5) = 9/65, left: ((9 / 13) / 5) = 9/65, 7",
            "(7) + (9/65) = 472/65, left: (7 + ((9 / 13) / 5)) = 472/65",
        ],
        (3, 0.66667, 0, 1, 0.35),
    ),
    "final with wrong integers and value": (
        (4, 1, 9, 4),
        [
            "(4) + (1) = 5, left: (4 + 1) = 5, 9, 4",
            "(5) + (9) = 14, left: ((4 + 1) + 9) = 14, 4",
            "(14) + (4) = 18, left: (((4 + 1) + 9) + 4) = 18",
            "reach 24! expression: ((9 + 9) + 4)",
        ],
        (4, 0.5, 0, 1, 0.30),
    ),
    "final without a parenthesis": (
        (1, 6, 10, 5),
        [
            "(10) - (1) = 9, left: (10 - 1) = 9, 6, 5",
            "(9) * (6) = 54, left: ((10 - 1) * 6) = 54, 5",
            "(54) - (5) = 49, left: (((10 - 1) * 6) - 5) = 49",
            "reach 24! expression: (((10 - 1) * 6) - 5",
        ],
        (4, 0.5, 0, 1, 0.30),
    ),
    "one wrong card and a wrong final among eight": (
        (8, 10, 8, 7),
        [
            "(8) + (10) = 18, left: (8 + 10) = 18, 8, 7",
            ROLL_BACK,
            "(8) * (7) = 56, left: (8 * 7) = 56, 8, 10",
            ROLL_BACK,
            "(10) - (8) = 2, left: (10 - 8) = 2, 8, 7",
            "(2) * (8) = 16, left: ((10 - 8) * 8) = 16, 7",
            "(16) + (7) = 24, left: (((10 - 8) * 8) + 7) = 24",
            "reach 24! expression: (((10 - 8) * 8) + 7)",
        ],
        (8, 0.625, 0, 0.96083, 0.33163),
    ),
    "a repeated step": ((9, 6, 6, 6), steps_of_9666(), (23, 0.95652, 0, 0.54983, 0.36943)),
    "empty": ((4, 6, 1, 1), [""], (1, 0, 0, 1, 0.15)),
    "wrong answer alone": ((4, 6, 1, 1), ["reach 24! expression: (1 + 1)"], (1, -1, 0, 1, -0.15)),
    "one roll-back three times": ((8, 10, 8, 7), [ROLL_BACK] * 3, (3, 1, 0, 1, 0.45)),
    "right answer and a newline": ((1, 2, 3, 4), ["reach 24! expression: (((1 * 2) * 3) * 4)", ""], (2, 0, 0, 1, 0.15)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    numbers, texts, (lines, process, outcome, length, reward) = GOLDEN[name]
    verdict = COMPATIBLE.verify("\n".join(texts), {"numbers": list(numbers), "target": 24})
    assert verdict.metrics["lines"] == lines
    assert verdict.metrics["process"] == pytest.approx(process, abs=1e-5)
    assert verdict.metrics["outcome"] == outcome
    assert verdict.metrics["length"] == pytest.approx(length, abs=1e-5)
    assert verdict.reward == pytest.approx(reward, abs=1e-5)


@pytest.mark.parametrize(
    ("numbers", "expression"),
    [
        ((2, 4, 1, 0), "2_4 + 1*0"),
        ((1, 5, 16, 0), "1.5 * 16 + 0"),
        ((2, 1, 4), "2e1 + 4"),
        ((2, 3, 3, 1), "2 ** 3 * 3 ** 1"),
        ((25, 1, 1), "25 // 1 - 1"),
    ],
)
def test_number_tricks_count_as_published(numbers, expression):
    verdict = COMPATIBLE.verify(f"reach 24! expression: {expression}", {"numbers": list(numbers), "target": 24})
    assert verdict.correct
    assert verdict.reward == 1


@pytest.mark.parametrize("line", ["(1) + (1) = 7, left: (4 * 6) = 24, 1, 1", "hocus, left: 4 6 1 1"])
def test_process_tricks_count_as_published(line):
    verdict = COMPATIBLE.verify(line, {"numbers": [4, 6, 1, 1], "target": 24})
    assert verdict.metrics["process"] == 1


def test_wrong_integers_with_the_right_value_cost_one_error():
    verdict = COMPATIBLE.verify("reach 24! expression: 12 + 12", {"numbers": [4, 6, 1, 1], "target": 24})
    assert verdict.metrics["process"] == 0


def test_only_the_text_after_the_last_role_marker_counts():
    verdict = COMPATIBLE.verify("noise\nassistant\nreach 24! expression: 4 * 6", {"numbers": [4, 6], "target": 24})
    assert verdict.reward == 1


def test_huge_integers_do_not_vanish_from_the_multiset():
    expression = "4 * 6 + 0 * " + "9" * 30
    verdict = COMPATIBLE.verify(f"reach 24! expression: {expression}", {"numbers": [0, 4, 6], "target": 24})
    assert not verdict.correct


def test_clamp_keeps_the_process_part_at_zero():
    task = make_task({"name": "game24", "checker": "compatible", "clamp": True})
    verdict = task.verify("reach 24! expression: (1 + 1)", {"numbers": [4, 6, 1, 1], "target": 24})
    assert (verdict.metrics["process"], verdict.reward) == (0, 0.15)


@pytest.mark.parametrize(
    ("text", "value"), [("2_4", 24), ("7/117", 7 / 117), ("-8", -8), ("2**3**2", 512), ("7 % 4", 3)]
)
def test_python_value(text, value):
    assert python_value(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1/0",
        "9**9**9**9",
        "1e999",
        "1 if 1 else 2",
        "abs(1)",
        "a",
        "1,2",
        "(" * 300,
        "9" * 399 + "*9**9",
        "1 == 1",
        "-" * 300,
    ],
)
def test_python_value_refuses(text):
    with pytest.raises(NoValue):
        python_value(text)
