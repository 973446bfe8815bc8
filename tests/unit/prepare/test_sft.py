import json

import pytest

from openrlhf_ext.data.rft import signature
from openrlhf_ext.prepare.sft import build_sft


def trajectory(problem: int, text: str, scores: float | None, reward: float = 0.0) -> dict:
    return {
        "prompt": f"question {problem}\n",
        "label": '{"answer": "3"}',
        "observation_tokens": [1, 2, 3],
        "action_ranges": [[1, 3]],
        "rollout_log_probs": None,
        "reward": reward,
        "scores": scores,
        "truncated": False,
        "extra_logs": {},
        "problem_id": problem,
        "text": text,
    }


ROWS = [
    trajectory(0, "<<1+2=3>> so\n#### 3", 1),
    trajectory(0, "well, <<1 + 2 = 3>>\n#### 3", 1),
    trajectory(0, "<<2+1=3>>\n#### 3", 1),
    trajectory(0, "<<1+3=4>>\n#### 4", 0),
    trajectory(1, "#### 3", 1),
    trajectory(1, "####  3", 1),
    trajectory(1, "by hand #### 3", None, reward=1.0),
    trajectory(1, "by hand #### 4", None, reward=0.2),
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def outputs(path) -> list[str]:
    return [json.loads(line)["output"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("select", "per_problem", "kept"),
    [("rft", 8, [1, 2, 4, 6]), ("rft", 1, [1, 4]), ("successes", 8, [0, 1, 2, 4, 5, 6]), ("all", 8, list(range(8)))],
)
def test_selection(tmp_path, select, per_problem, kept):
    source, out = write(tmp_path / "t.jsonl", ROWS), tmp_path / "out.jsonl"
    assert len(build_sft(source, out, select=select, per_problem=per_problem).rows) == len(kept)
    assert outputs(out) == [ROWS[at]["text"] for at in kept]
    assert json.loads(out.read_text().splitlines()[0])["input"] == "question 0\n"


def test_signature():
    assert signature("a <<1+2=3>> b <<3*4=12>>") == signature("<<1 + 2=3>><<3*4=12>> #### 12") == "1+2=3|3*4=12"
    assert signature("no  equations\nhere") == "no equations here"


def test_half_written_lines_are_named_and_skipped(tmp_path):
    lines = [json.dumps(row) for row in ROWS]
    source = tmp_path / "t.jsonl"
    source.write_text("\n".join([*lines[:3], lines[3][:40], *lines[4:], lines[0][:-9]]))
    built = build_sft(source, tmp_path / "out.jsonl")
    assert built.notes[0] == f"skipped 2 half-written lines: {source}:4, {source}:9"
    assert len(built.rows) == 4
    worked = tmp_path / "worked.jsonl"
    worked.write_text('{"question": "1+1?", "answer": "2"}\n{"question": "1+\n{"question": "1+2?", "answer": "3"}\n')
    built = build_sft(worked, tmp_path / "out.jsonl")
    assert len(built.rows) == 2 and built.notes == [f"skipped 1 half-written lines: {worked}:2"]


def test_what_follows_the_first_answer_is_cut_and_graded_again(tmp_path):
    rows = [
        trajectory(0, "1+2=3\n#### 3\nProblem: 5+5\n#### 10", 0),  # the last answer was graded, the first one is right
        trajectory(0, "1+3=4\n#### 4\n#### 3", 1),  # and here it is wrong
        trajectory(1, "it is 3. I hope it is correct.", 0),
    ]
    built = build_sft(write(tmp_path / "t.jsonl", [row | {"task": "gsm8k"} for row in rows]), tmp_path / "out.jsonl")
    assert [row["output"] for row in built.rows] == ["1+2=3\n#### 3"]
    assert "3 samples were cut behind their first answer" in built.notes
    assert "1 problems without a correct sample" in built.notes and "1 problems with both" in built.notes


def test_worked_answers_of_math_end_with_a_line_that_says_the_answer(tmp_path):
    rows = [
        {"problem": "p", "solution": "so $x=\\boxed{4}$."},
        {"problem": "p", "solution": "so $x=\\boxed{4}$.\nThe answer is $4$."},
        {"problem": "p", "solution": "a proof"},
        {"query": "q", "response": "The answer is 3"},
    ]
    built = build_sft(write(tmp_path / "m.jsonl", rows), tmp_path / "out.jsonl")
    both = "so $x=\\boxed{4}$.\nThe answer is $4$."
    assert [row["output"] for row in built.rows] == [both, both, "a proof", "The answer is 3"]
    assert built.rows[0]["input"] == "p\n"


def test_nothing_left_is_an_error(tmp_path):
    source = write(tmp_path / "t.jsonl", [trajectory(0, "x", 0)])
    with pytest.raises(ValueError, match="no sample is correct"):
        build_sft(source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_worked_answers_cannot_be_selected(tmp_path):
    source = write(tmp_path / "q.jsonl", [{"question": "1+2", "answer": "#### 3"}])
    with pytest.raises(ValueError, match="needs graded samples"):
        build_sft(source, tmp_path / "out.jsonl", select="rft")


def test_bad_rows_are_named(tmp_path):
    source = write(tmp_path / "q.jsonl", [{"question": "1+2", "answer": "#### 3"}, {"question": "1+2"}, {"input": 3}])
    with pytest.raises(ValueError) as caught:
        build_sft(source, tmp_path / "out.jsonl")
    assert str(caught.value).split("\n") == [
        f"{source}:2: answer: missing",
        f"{source}:3: input: expected text, found int",
        f"{source}:3: output: missing",
    ]
