"""Program answers: what is run, what it earns, what a label must say."""

from __future__ import annotations

import ast
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext import sandbox
from openrlhf_ext.rollout.grading import grade_response
from openrlhf_ext.tasks import LabelError, make_task
from openrlhf_ext.tasks.grade import grade_file
from openrlhf_ext.tasks.program import completed, program_head

QUESTION = "Tom has 9 bags of 2 pens. How many pens?"
HEAD = f'def solution():\n    """{QUESTION}"""\n'
GOLD = f"{HEAD}    pens = 9 * 2\n    result = pens\n    return result"


def task(**options: object):
    return make_task({"name": "gsm8k-program", "tolerance": 0.01, "partial_reward": 0.2, "cpu_seconds": 0.5, **options})


def label(prefix: str = "", answer: str = "18") -> str:
    return json.dumps({"answer": answer, "prefix": prefix})


@pytest.mark.parametrize(
    ("response", "prefix", "reward", "came_to"),
    [
        (GOLD, "", 1.0, "answered"),
        ("    return 9 * 2", HEAD, 1.0, "answered"),
        ("    return sympy.solve(sympy.Symbol('x') - 18)[0]", HEAD, 1.0, "answered"),
        ("    import math\n    return math.floor(18.4)", HEAD, 1.0, "answered"),
        ("    return 18.01", HEAD, 1.0, "answered"),  # at the tolerance
        ("    return 18.02", HEAD, 0.2, "answered"),
        ("    return -18", HEAD, 0.2, "answered"),
        ("    return 9 * 2\n\nThe answer is 18.", HEAD, 1.0, "answered"),
        ("    pens = 9 * 2\n\n    return pens", HEAD, 0.0, "failed"),  # a blank line ends the program
        ("    return float('nan')", HEAD, 0.0, "failed"),
        ("    return 'eighteen'", HEAD, 0.0, "failed"),
        ("    return 18 /", HEAD, 0.0, "failed"),
        ("    return 1 / 0", HEAD, 0.0, "failed"),
        ("    print(18)", HEAD, 0.0, "failed"),
        ("#### 18", HEAD, 0.0, "failed"),
        ("    import os\n    os.system('true')\n    return 18", HEAD, 0.0, "stopped"),
        ("    import os\n    return 18", HEAD, 1.0, "answered"),
        ("    print('x' * 10 ** 4)\n    return 18", HEAD, 1.0, "answered"),
        ("    print('x' * 10 ** 7)\n    return 18", HEAD, 0.0, "stopped"),
        ("    while True: pass", HEAD, 0.0, "stopped"),
        ("    return len([0] * 10 ** 10)", HEAD, 0.0, "stopped"),
        ("", HEAD, 0.0, ""),
        (" \n", HEAD, 0.0, ""),
        ("x" * 50_001, HEAD, 0.0, ""),
    ],
)
def test_reward_table(response: str, prefix: str, reward: float, came_to: str) -> None:
    verdict = task().verify(response, label(prefix))
    assert (verdict.reward, verdict.correct, verdict.parsed) == (reward, reward == 1.0, came_to == "answered")
    assert verdict.metrics == {key: float(key == came_to) for key in ("answered", "failed", "stopped")}


def test_a_completion_of_every_start_state_earns_what_the_whole_program_earns() -> None:
    """Cut anywhere behind the head, also inside a line or a word."""
    for at in range(len(HEAD), len(GOLD)):
        assert task().verify(GOLD[at:], label(GOLD[:at])).reward == 1.0, GOLD[:at]


@pytest.mark.parametrize(
    "response",
    [
        f"```python\n{GOLD}\n```",
        f"Here is the program.\n\n```\n{GOLD}\n```\nIt gives 18.",
        f"Here is the program.\n\n{GOLD}\n\nIt gives 18.",
        f"import math\n{GOLD}",
        f"    return 0\n\n{GOLD}",
    ],
)
def test_a_response_that_defines_the_function_stands_for_itself(response: str) -> None:
    assert task().verify(response, label(HEAD)).reward == 1.0


def test_the_example_answers(tmp_path: Path) -> None:
    """Right, wrong, a name that is not defined, an endless loop, a file, a whole program, and the rest of a start state."""
    answers = Path(__file__).parents[3] / "examples" / "data" / "program_answers.jsonl"
    grade_file({"name": "gsm8k-program", "partial_reward": 0.2}, answers, tmp_path / "graded.jsonl")
    graded = [json.loads(line) for line in (tmp_path / "graded.jsonl").read_text().splitlines()]
    assert [row["reward"] for row in graded] == [1.0, 0.2, 0.0, 0.0, 0.0, 1.0, 1.0]


def test_defaults_are_no_partial_reward_and_a_hundredth() -> None:
    plain = make_task({"name": "svamp-program"})
    assert plain.verify("    return 17", label(HEAD)).reward == 0.0
    assert plain.verify("    return 18.009", label(HEAD)).reward == 1.0
    with pytest.raises(ValueError, match="did you mean 'cpu_seconds'"):
        make_task({"name": "svamp-program", "cpu_second": 1})


@pytest.mark.parametrize("answer", ["1,000", "1000.0", "1000"])
def test_gold_numbers_may_be_written_in_any_form(answer: str) -> None:
    assert task().verify("    return 10 ** 3", label(HEAD, answer)).reward == 1.0


@pytest.mark.parametrize(
    "wrong",
    ["{}", '{"answer": "x + 1"}', '{"answer": "18", "prefix": 3}', '{"answer": "18", "prefix": "a\\n\\nb"}', "18"],
)
def test_a_label_that_cannot_be_graded_is_an_error(wrong: str) -> None:
    with pytest.raises(LabelError):
        task().verify("    return 18", wrong)


def test_a_sandbox_that_fails_is_counted_and_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(program: str, limits: object) -> None:
        raise sandbox.SandboxError("no server")

    monkeypatch.setattr(sandbox, "run", broken)
    verdict, error = grade_response(task(), "    return 18", label(HEAD))
    assert verdict.reward == 0 and error is not None and "no server" in error


def test_self_test() -> None:
    assert task().self_test() == []


def test_self_test_tells_of_a_machine_that_cannot_confine(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = sandbox.Capabilities((), dict.fromkeys(sandbox.LAYERS, "Operation not permitted"))
    monkeypatch.setattr(sandbox, "capabilities", lambda: bare)
    [problem] = task().self_test()
    assert "not confined" in problem and "--task.unconfined true" in problem
    assert task(unconfined="true").self_test() == []


def test_self_test_tells_where_no_program_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    sandbox.close()
    [problem] = task().self_test()
    assert "confined by Linux's kernel; this is darwin" in problem


def test_a_task_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(task())).verify("    return 18", label(HEAD)).reward == 1.0


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_every_question_fits_its_docstring(question: str) -> None:
    head = program_head(question)
    assert head.count("\n") == 2 and head.endswith('"""\n')
    if "\0" not in question:
        [function] = ast.parse(head).body
        assert isinstance(function, ast.FunctionDef)
        assert ast.get_docstring(function, clean=False) == " ".join(question.split())


def test_completed_by_hand() -> None:
    assert completed("a\n", "b\n \t\nc") == "a\nb"
    assert completed("a", "\nb") == "a\nb"
    assert completed("a\n", "\nb") == "a"
    assert completed("a\n", "x\n\ndef solution(): y\nz\n\nw") == "def solution(): y\nz"
