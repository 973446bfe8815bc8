"""Programs made of marks and equations, by hand and on invented solutions; nothing here runs them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from openrlhf_ext.data.programs import Step, equation_steps, given_numbers, marked_steps, program_of


def lines(program: str | None) -> list[str]:
    """The program below its head."""
    return [line.strip() for line in (program or "").split("\n")[2:]]


def test_results_get_names_and_are_used_by_name() -> None:
    solution = (
        "Ann reads 12 x 2 = <<12*2=24>>24 pages today.\nThat is 12 + 24 = <<12+24=36>>36 pages since yesterday.\n"
        "There are 120 - 36 = $<<120-36=84>>84 left.\nHalf of them: <<84/2=42>>42.\n#### 42"
    )
    question = "Ann reads 12 of 120 pages, then twice as many. How much is half of the rest?"
    program = program_of(question, marked_steps(solution), Fraction(42))
    assert program is not None and program.startswith('def solution():\n    """Ann reads 12 of')
    assert lines(program) == [
        "pages_today = 12 * 2",
        "pages_since_yesterday = 12 + pages_today",
        "left = 120 - pages_since_yesterday",
        "result = left / 2",
        "return result",
    ]
    assert lines(program_of(question, marked_steps(solution), Fraction(42), linked=False))[1:3] == [
        "pages_since_yesterday = 12 + 24",
        "left = 120 - 36",
    ]


def test_the_answer_may_come_before_the_last_mark() -> None:
    steps = marked_steps("<<2*3=6>>6 apples\n<<6+1=7>>7 pears\n<<7*7=49>>49\n#### 7")
    assert lines(program_of("?", steps, Fraction(7))) == [
        "apples = 2 * 3",
        "pears = apples + 1",
        "result = pears",
        "return result",
    ]
    assert program_of("?", steps, Fraction(8)) is None
    assert program_of("?", [], Fraction(8)) is None


def test_numbers_of_the_question_stay_numbers() -> None:
    steps = [Step("3 + 3", Fraction(6)), Step("6 * 2", Fraction(12))]
    assert lines(program_of("Six times 2?", steps, Fraction(12)))[1] == "result = 6 * 2"
    assert lines(program_of("Six 6 times 2?", steps, Fraction(12)))[1] == "result = 6 * 2"
    assert lines(program_of("How much?", steps, Fraction(12)))[1] == "result = step_1 * 2"
    assert given_numbers("Half of 1,000.50 in two weeks") == {Fraction(2001, 2), Fraction(2), Fraction(7)}


@pytest.mark.parametrize(
    ("mark", "expression", "value"),
    [
        ("48/2=24", "48 / 2", 24),
        ("20%*50=10", "20 / 100 * 50", 10),
        ("$1,000*.5=$500", "1000 * 0.5", 500),
        ("2x3=6", "2 * 3", 6),
        ("(3+4)*2=14", "(3 + 4) * 2", 14),
        ("05+5=10", "5 + 5", 10),
        ("3.50*2=7.00", "3.5 * 2", 7),
        ("2*3=3*2=6", "2 * 3", 6),
        ("-3+5=2", "-3 + 5", 2),
        ("10=10", "10", 10),
        ("1/3=1/3", "1 / 3", Fraction(1, 3)),
    ],
)
def test_marks_by_hand(mark: str, expression: str, value: int) -> None:
    assert marked_steps(f"so <<{mark}>>it") == [Step(expression, Fraction(value), "it")]


@pytest.mark.parametrize(
    "mark",
    [
        "48/2",
        "x=3",
        "print(1)=1",
        "__import__('os')=1",
        "3 apples=3",
        "3+=3",
        "=3",
        "[3]=3",
        "1 if 1 else 2=1",
        "2*3=six",
        "a.b=1",
        "1<2=1",
    ],
)
def test_a_mark_that_is_no_arithmetic_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match=r"no arithmetic|does not say"):
        marked_steps(f"<<{mark}>>") or marked_steps("<<3 apples=3>>")  # a mark with < or > is none


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (" clips in May.", "clips_in_may"),
        (" of the eggs", "eggs"),
        (" per minute.", "minute"),
        (" for", "step_1"),
        ("", "step_1"),
        (" lambda", "step_1"),
        (" result", "step_1"),
        (" + 3", "step_1"),
        (" Tom's pens", "tom_s_pens"),
        (" a very long description of what", "very_long"),
        (f" {'w' * 50}", "w" * 32),
    ],
)
def test_names(words: str, name: str) -> None:
    steps = [Step("1 + 1", Fraction(2), words), Step("5 * 5", Fraction(25))]
    assert lines(program_of("?", steps, Fraction(25)))[0] == f"{name} = 1 + 1"


def test_a_name_is_given_once() -> None:
    steps = [
        Step("1 + 2", Fraction(3), " pens"),
        Step("1 + 3", Fraction(4), " pens"),
        Step("3 * 4", Fraction(12), " pens"),
    ]
    assert lines(program_of("?", steps, Fraction(12))) == [
        "pens = 1 + 2",
        "pens_2 = 1 + pens",
        "pens_3 = pens * pens_2",
        "result = pens_3",
        "return result",
    ]


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("( 76.0 - 25.0 )", [("76 - 25", 51)]),
        ("( ( 8.0 + 6.0 ) - 3.0 )", [("8 + 6", 14), ("step_1 - 3", 11)]),
        ("( 9.0 - ( 6.0 / 2.0 ) )", [("6 / 2", 3), ("9 - step_1", 6)]),
        ("( ( 1.0 + 2.0 ) * ( 4.0 - 3.0 ) )", [("1 + 2", 3), ("4 - 3", 1), ("step_1 * step_2", 3)]),
        ("( 0.5 * 3.0 )", [("0.5 * 3", Fraction(3, 2))]),
        ("7.0", []),
    ],
)
def test_equations_by_hand(equation: str, expected: list[tuple[str, Fraction]]) -> None:
    assert equation_steps(equation) == [Step(expression, Fraction(value)) for expression, value in expected]


@pytest.mark.parametrize("equation", ["( 1.0 / 0.0 )", "x + 1", "( 2.0 ** 3.0 )", "", "(" * 500 + "1"])
def test_an_equation_that_is_no_arithmetic_is_refused(equation: str) -> None:
    with pytest.raises(ValueError):
        equation_steps(equation)
