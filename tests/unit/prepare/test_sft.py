import json

import pytest

from openrlhf_ext.prepare.sft import build_sft, signature


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
    [("rft", 8, [0, 2, 4, 6]), ("rft", 1, [0, 4]), ("successes", 8, [0, 1, 2, 4, 5, 6]), ("all", 8, list(range(8)))],
)
def test_selection(tmp_path, select, per_problem, kept):
    source, out = write(tmp_path / "t.jsonl", ROWS), tmp_path / "out.jsonl"
    assert build_sft(source, out, select=select, per_problem=per_problem) == len(kept)
    assert outputs(out) == [ROWS[at]["text"] for at in kept]
    assert json.loads(out.read_text().splitlines()[0])["input"] == "question 0\n"


def test_signature():
    assert signature("a <<1+2=3>> b <<3*4=12>>") == signature("<<1 + 2=3>><<3*4=12>> #### 12") == "1+2=3|3*4=12"
    assert signature("no  equations\nhere") == "no equations here"


def test_nothing_left_is_an_error(tmp_path):
    source = write(tmp_path / "t.jsonl", [trajectory(0, "x", 0)])
    with pytest.raises(ValueError, match="no sample is correct"):
        build_sft(source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_worked_answers_cannot_be_selected(tmp_path):
    source = write(tmp_path / "q.jsonl", [{"question": "1+2", "answer": "#### 3"}])
    with pytest.raises(ValueError, match="needs graded trajectories"):
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
