"""`prepare programs`, and what is made of its rows: every program was run, and every start state of it can be graded."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from openrlhf_ext import prepare
from openrlhf_ext.data.demonstrations import read_demonstrations
from openrlhf_ext.prepare.programs import build_programs
from openrlhf_ext.prepare.prompts import build_prompts
from openrlhf_ext.prepare.reverse_curriculum import build_reverse_curriculum
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.program import program_head

pytestmark = pytest.mark.timeout(600)

GSM8K = [
    {
        "question": "Ann has 3 boxes of 4 pens and buys 2 pens. How many pens has she?",
        "answer": "She has 3*4 = <<3*4=12>>12 pens in boxes.\nThen 12+2 = <<12+2=14>>14 pens.\n#### 14",
    },
    {
        "question": "Cut 10 m in 3. How long are 3 pieces?",
        "answer": "<<10/3=3.33>>3.33 m\n<<3.33*3=9.99>>9.99 m\n#### 9.99",
    },
    {"question": "Two and two?", "answer": "It is four.\n#### 4"},
    {"question": "Wrong?", "answer": "<<1+1=3>>3\n#### 3"},
    {"question": "Other?", "answer": "<<1+1=2>>2\n#### 5"},
    {"question": "Odd?", "answer": "<<two+1=3>>3\n#### 3"},
]
SVAMP = [
    {"ID": "chal-1", "Body": "Tom had 8 red and 6 blue pens", "Question": "and lost 3. How many?", "Equation": "( ( 8.0 + 6.0 ) - 3.0 )", "Answer": 11.0},
    {"ID": "chal-2", "Body": "One", "Question": "pen?", "Equation": "1.0", "Answer": 1.0},
]  # fmt: skip


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def call(*words: object) -> int:
    parser = argparse.ArgumentParser(prog="openrlhf-ext")
    prepare.add_parser(parser.add_subparsers())
    args = parser.parse_args(["prepare", "programs", *map(str, words)])
    return args.func(args)


def test_gsm8k(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / "programs.jsonl"
    assert call("--task", "gsm8k", "--in", write(tmp_path / "in.jsonl", GSM8K), "--out", out) == 0
    first, second = read(out)
    question = GSM8K[0]["question"]
    assert first == {
        "item_id": "gsm8k_0",
        "question": question,
        "answer_cot": f'def solution():\n    """{question}"""\n    pens_in_boxes = 3 * 4\n    pens = pens_in_boxes + 2\n'
        "    result = pens\n    return result",
        "answer_value": "14",
    }
    assert second["item_id"] == "gsm8k_1" and "m = 10 / 3" in second["answer_cot"]
    shown = capsys.readouterr().out
    assert "2 programs" in shown
    for line in (
        "left out 1, no calculation is marked: gsm8k_2",
        "left out 1, the program does not give the answer: gsm8k_3",
        "left out 1, no calculation comes to the answer: gsm8k_4",
        "left out 1, a calculation is no plain arithmetic: gsm8k_5",
    ):
        assert line in shown


def test_svamp(tmp_path: Path) -> None:
    conversion = build_programs("svamp", write(tmp_path / "in.jsonl", SVAMP), tmp_path / "out.jsonl")
    [row] = read(tmp_path / "out.jsonl")
    assert row["answer_cot"].endswith("    step_1 = 8 + 6\n    result = step_1 - 3\n    return result")
    assert (row["item_id"], row["answer_value"]) == ("chal-1", "11")
    assert conversion.left_out == {"no calculation is marked": ["chal-2"]}


def test_nothing_is_written_for_bad_rows_or_where_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    assert call("--task", "gsm8k", "--in", write(tmp_path / "a.jsonl", SVAMP), "--out", out) == 2
    assert "a.jsonl:1: question: missing" in capsys.readouterr().err
    assert call("--task", "gsm8k", "--in", write(tmp_path / "b.jsonl", GSM8K[2:3]), "--out", out) == 2
    assert "no calculation is marked" in capsys.readouterr().err
    assert (
        call(
            "--task",
            "svamp",
            "--in",
            write(tmp_path / "c.jsonl", [{"Body": "a", "Question": "b", "Answer": 1.0}]),
            "--out",
            out,
        )
        == 2
    )
    assert "Equation: missing" in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    build_programs("gsm8k", write(folder / "gsm8k.jsonl", GSM8K), folder / "train.jsonl")
    return folder


@pytest.mark.parametrize("template", ["plain", "alpaca"])
def test_start_states_of_programs(made: Path, template: str) -> None:
    """L counts the two lines of the head, which every prompt holds: k = 0, 1, 2, 4, 5 of 6 lines leaves the same prompt three times."""
    build_reverse_curriculum(
        "gsm8k-program", made / "train.jsonl", made / "mixed.jsonl", template=template, mode="staged"
    )
    build_prompts("gsm8k-program", made / "prompts.jsonl", made / "gsm8k.jsonl", template=template)
    prompt = read(made / "prompts.jsonl")[0]
    rows = [row for row in read(made / "mixed.jsonl") if row["id"] == "gsm8k_0"][::-1]
    head = program_head(GSM8K[0]["question"])
    body = ["    pens_in_boxes = 3 * 4\n", "    pens = pens_in_boxes + 2\n", "    result = pens\n", "    return result"]
    assert prompt["input"].endswith(f"\n{head}")
    assert [(row["stage"], row["prefix_units"], row["units"]) for row in rows] == [
        (0, 0, 6),
        (1, 1, 6),
        (2, 2, 6),
        (3, 4, 6),
        (4, 5, 6),
    ]
    assert [row["input"] for row in rows] == [prompt["input"] + "".join(body[:lines]) for lines in (0, 0, 0, 2, 3)]
    assert [row["completion"] for row in rows] == ["".join(body[lines:]) for lines in (0, 0, 0, 2, 3)]
    assert (rows[0]["input"], rows[0]["label"]) == (prompt["input"], prompt["label"])
    task = make_task({"name": "gsm8k-program", "partial_reward": 0.2})
    for row in rows:
        assert json.loads(row["label"])["prefix"] + row["completion"] == head + "".join(body)
        assert task.verify(row["completion"], row["label"]).reward == 1.0
        assert task.verify(row["completion"].replace("return result", "return result + 1"), row["label"]).reward == 0.2


def test_the_project_s_own_rows_are_read_as_they_are(tmp_path: Path) -> None:
    """A whole program, a mixed row whose prefix ends below the docstring, and a mixed row of k = 0 without the head."""
    question = 'He said "four"'
    program = f'def solution():\n    """{question} """\n    a = 2\n    result = a + 2\n    return result\n'
    start = f"{question}\n\n### Response: "
    rows = [
        {"item_id": "a", "question": question, "answer_cot": program, "answer_value": "4"},
        {"item_id": "b", "question": start + program[: program.index("    result")].rstrip("\n"), "answer_cot": program[program.index("    result") :], "answer_value": "4"},
        {"item_id": "c", "question": start, "answer_cot": program[program.index("    a = 2") :], "answer_value": "4"},
    ]  # fmt: skip
    task = make_task({"name": "gsm8k-program"})
    found = read_demonstrations(
        "gsm8k-program", write(tmp_path / "r3.jsonl", rows), lambda text, label: task.verify(text, label).correct
    )
    expected = f"{program_head(question)}    a = 2\n    result = a + 2\n    return result"
    assert [demonstration.text for demonstration in found.items] == [expected] * 3
    assert found.items[0].label == {"answer": "4"} and not found.rejected


def test_worked_answers_are_no_programs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prepare programs makes such rows"):
        build_reverse_curriculum("gsm8k-program", write(tmp_path / "in.jsonl", GSM8K[:1]), tmp_path / "out.jsonl")


@pytest.mark.slow
def test_released_svamp(shared_data: Path, tmp_path: Path) -> None:
    conversion = build_programs("svamp", shared_data / "svamp" / "SVAMP.json", tmp_path / "out.jsonl")
    assert len(conversion.rows) == 998


@pytest.mark.slow
def test_released_gsm8k(shared_data: Path, tmp_path: Path) -> None:
    """At least a thousand solutions become programs that run and give the answer."""
    part = (shared_data / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:1200]
    (tmp_path / "train.jsonl").write_text("".join(part), encoding="utf-8")
    conversion = build_programs("gsm8k", tmp_path / "train.jsonl", tmp_path / "out.jsonl")
    assert len(conversion.rows) >= 1000
