import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.tasks.steps import SPLITTERS, line_steps, math_steps, splitter_of, through_answer


def squeezed(text: str) -> str:
    """The text without blank lines."""
    lines = text.split("\n")
    whole = [line + "\n" for line in lines[:-1]] + [lines[-1]]
    return "".join(line for line in whole if line.strip())


GSM = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n\nAltogether 48+24 = <<48+24=72>>72 clips.\n#### 72"


def test_lines_are_steps_and_blank_lines_are_none():
    assert line_steps(GSM) == [
        "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n",
        "Altogether 48+24 = <<48+24=72>>72 clips.\n",
        "#### 72",
    ]
    assert line_steps("") == line_steps(" \n\n\t\n") == []
    assert line_steps("17+58=75\n75+40=15\n#### 15\n") == ["17+58=75\n", "75+40=15\n", "#### 15\n"]


def test_the_answer_is_a_step_of_its_own_also_inside_a_line():
    assert line_steps("She has 3+4=7. The answer is 7") == ["She has 3+4=7. ", "The answer is 7"]
    assert line_steps("3+4=7 #### 7") == ["3+4=7 ", "#### 7"]
    # One sentence says both: nothing is left before the answer.
    assert line_steps("So the answer is 7.\n") == ["So the answer is 7.\n"]
    # No answer is given here, so nothing is detached.
    assert line_steps("We see. The answer is not clear yet.\n") == ["We see. The answer is not clear yet.\n"]


MATH = (
    "We have that $2x + 3 = 11.$ Subtracting three from both sides gives $2x = 8$. Hmm.\n"
    "Dividing both sides by two we find that $x = 4.$ Hence the value asked for is $4^2 = 16$.\n"
    "The answer is $16$."
)


def test_math_is_cut_at_sentences_and_short_pieces_join():
    assert (
        math_steps(MATH)
        == [
            "We have that $2x + 3 = 11.$ ",
            "Subtracting three from both sides gives $2x = 8$. ",
            "Hmm.\nDividing both sides by two we find that $x = 4.$ ",  # its shorter neighbour: 47 characters, the other has 49
            "Hence the value asked for is $4^2 = 16$.\n",
            "The answer is $16$.",
        ]
    )


def test_math_has_at_most_nine_pieces_and_the_answer():
    lines = [f"Line number {i} of the long solution says $x = {i}$.\n" for i in range(14)]
    steps = math_steps("".join(lines) + "The answer is $13$.")
    assert len(steps) <= 10 and steps[-1] == "The answer is $13$."
    assert "".join(steps) == "".join(lines) + "The answer is $13$."


def test_a_short_math_solution_has_its_long_steps_cut_near_the_middle():
    text = "The first angle is twice the second one and both of them make a right angle together.\nThe answer is $30$."
    assert math_steps(text) == [
        "The first angle is twice the second one",
        " and both of them make a right angle together.\n",
        "The answer is $30$.",
    ]
    # Both halves would not have more than 20 characters, or the step is not long.
    assert math_steps("It is short and clear.\nThe answer is $3$.") == [
        "It is short and clear.\n",
        "The answer is $3$.",
    ]


def test_many_tiny_pieces_become_one():
    assert math_steps("a\nb\nc\n") == ["a\nb\nc\n"]
    assert math_steps("") == [] == math_steps("\n \n")


@given(
    st.lists(
        st.sampled_from(
            [
                "$x=1.$ ",
                "and so ",
                "$y$. ",
                "\n",
                "\n\n",
                "The answer is $4$",
                "#### 5",
                "a long piece of prose, ",
                "=",
                " ",
            ]
        ),
        max_size=30,
    ).map("".join),
    st.sampled_from(sorted(SPLITTERS)),
)
def test_joining_gives_the_text_without_blank_lines(text, rule):
    steps = SPLITTERS[rule](text)
    assert "".join(steps) == squeezed(text)
    assert all(step.strip() for step in steps)


@pytest.mark.parametrize(
    ("text", "task", "cut", "answered"),
    [
        ("a\n#### 5\nProblem: next\n#### 6", "gsm8k", "a\n#### 5\n", True),
        ("The answer is 5. The answer is 6.", "gsm8k", "The answer is 5. ", True),
        ("the answer is not known\nThe answer is: 7\n", "math", "the answer is not known\nThe answer is: 7\n", True),
        ("so $\\boxed{3}$.\nAnd $\\boxed{4}$.", "math", "so $\\boxed{3}$.\n", True),
        ("so $\\boxed{3}$.\nThe answer is $3$.\nmore", "math", "so $\\boxed{3}$.\nThe answer is $3$.\n", True),
        ("nothing here", "gsm8k", "nothing here", False),
        ("(1) + (2) = 3, left: 3, 8\n", "game24", "(1) + (2) = 3, left: 3, 8\n", False),
        ("reach 24! expression: (4 * 6)\nmore", "game24", "reach 24! expression: (4 * 6)\nmore", False),
        ("x\nreach 24! expression: (4 * 6)\n", "game24", "x\nreach 24! expression: (4 * 6)\n", True),
    ],
)
def test_the_first_answer_ends_a_solution(text, task, cut, answered):
    assert through_answer(text, task) == (cut, answered)


def test_every_task_has_a_rule():
    assert {splitter_of(name) for name in ("gsm8k", "chain", "game24", "svamp")} == {"lines"}
    assert splitter_of("math") == "math"


def test_real_solutions_are_spelt_by_their_steps(shared_data):
    path = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    if not path.is_file():
        pytest.skip("no example_model_solutions.jsonl")
    texts = solutions(path)
    assert len(texts) == 5276
    for text in texts:
        for split in SPLITTERS.values():
            assert "".join(split(text)) == squeezed(text)


def solutions(path) -> list[str]:
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found += [value["solution"] for value in row.values() if isinstance(value, dict) and "solution" in value]
    return found
