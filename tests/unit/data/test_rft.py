"""Which correct samples stay, and what they are paired with."""

import json
import subprocess
import sys

import pytest

from openrlhf_ext.data.edit_distance import distance, normalised
from openrlhf_ext.data.outcome_pairs import OutcomeRule, make_outcome_pairs
from openrlhf_ext.data.rft import calculates_right, select_rft, signature, tally
from openrlhf_ext.data.samples import Sample, by_problem


def sample(text: str, correct: bool = True, problem: int = 0, task: str = "gsm8k", truncated: bool = False) -> Sample:
    return Sample(problem, f"question {problem}\n", '{"answer": "5"}', text, correct, truncated, task)


def texts(samples) -> list[str]:
    return [s.text for s in samples]


def test_one_solution_per_sequence_of_equations():
    rows = [
        sample("<<2+3=5>> #### 5"),
        sample("<<2+3=5>> #### 5"),  # an exact duplicate
        sample("<<3 + 2=5>> #### 5"),
        sample("<<2*2=4>> <<4+1=5>> #### 5"),
        sample("<<2+3=6>> #### 5"),  # wrong arithmetic
        sample("<<2+3=5>> #### 6", correct=False),
    ]
    assert texts(select_rft(rows, 8)) == [rows[0].text, rows[2].text, rows[3].text]
    assert texts(select_rft(rows, 2)) == [rows[0].text, rows[2].text]


def test_of_the_same_equations_the_farthest_text_stays():
    rows = [
        sample("abc <<2+3=5>> #### 5"),
        sample("a long and different story <<2+3=5>> #### 5"),
        sample("abc <<4+1=5>> #### 5"),
    ]
    assert distance(rows[0].text, rows[2].text) == 2 < distance(rows[1].text, rows[2].text)
    assert texts(select_rft(rows, 8)) == [rows[1].text, rows[2].text]
    # Alone, there is nothing to be far from: the first stays.
    assert texts(select_rft(rows[:2], 8)) == [rows[0].text]


def test_math_solutions_within_a_fifth_of_edits_are_the_same():
    rows = [sample(text, task="math") for text in ("x" * 20, "x" * 18 + "yy", "y" * 20, "x" * 15 + "z" * 5)]
    assert normalised(rows[0].text, rows[1].text) == 0.1 and normalised(rows[0].text, rows[3].text) == 0.25
    assert texts(select_rft(rows, 8)) == [rows[0].text, rows[2].text, rows[3].text]
    drawn = texts(select_rft(rows, 2))
    assert len(drawn) == 2 and drawn == texts(select_rft(rows, 2)) and set(drawn) < set(texts(rows))


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("no marks", True),
        ("<<48/2=24>>24", True),
        ("<<1/3=.333>>", True),  # off by 1/3000
        ("<<1/3=.33>>", False),  # off by 1/300
        ("<<15%*80=12>> <<1,000-1=999>> <<2^3=8>> <<$5*2=$10>>", True),
        ("<<5>>", False),
        ("<<1/0=0>>", False),
        ("<<9**9**9=1>>", False),
        ("<<__import__('os').getpid()=1>>", False),
        ("<<2+2=4=4>>", True),
        ("<<" + "1+" * 500 + "1=501>>", False),
    ],
)
def test_marks_are_read_as_arithmetic_and_never_run(text, right):
    assert calculates_right(text) is right


def test_signatures():
    assert signature("a <<1+2=3>> b <<3*4=12>>") == "1+2=3|3*4=12"
    assert signature("17+58=75\n  #### 75") == "17+58=75 #### 75"


def test_outcome_pairs_take_the_farthest_wrong_solution_once():
    rows = [
        sample("<<2+3=5>> #### 5"),
        sample("<<4+1=5>> #### 5"),
        sample("<<2+3=6>> #### 6", correct=False),
        sample("something else altogether", correct=False),
        sample("something else altogether", correct=False),
    ]
    pairs = make_outcome_pairs(rows, OutcomeRule())
    assert [(p["chosen"], p["rejected"]) for p in pairs.items] == [
        (rows[0].text, rows[3].text),
        (rows[1].text, rows[2].text),
    ]
    assert pairs.items[0]["prompt"] == "question 0\n"
    assert pairs.items[0]["meta"] == {
        "kind": "outcome",
        "problem_id": 0,
        "label": '{"answer": "5"}',
        "task": "gsm8k",
    }
    assert len(make_outcome_pairs(rows, OutcomeRule(per_problem=1)).items) == 1


def test_math_pairs_take_the_shortest_that_differs_enough():
    right = sample("a" * 20, task="math")
    near, far, farther = (sample(text, False, task="math") for text in ("a" * 16 + "bb", "b" * 30, "b" * 22))
    pairs = make_outcome_pairs([right, near, far, farther], OutcomeRule())
    assert [(p["chosen"], p["rejected"]) for p in pairs.items] == [(right.text, farther.text)]
    # Nothing differs by a half, by 0.4 or by 0.3: the shortest at all.
    assert make_outcome_pairs([right, near], OutcomeRule()).items[0]["rejected"] == near.text


def test_length_limits_keep_degenerate_texts_out():
    rows = [
        sample("<<2+3=5>> #### 5"),
        sample("loop " * 200, False),
        sample("no", False),
        sample("five or six?", False),
    ]
    rule = OutcomeRule(min_chars=5, max_chars=400)
    pairs = make_outcome_pairs(rows, rule)
    assert [p["rejected"] for p in pairs.items] == ["five or six?"]
    assert pairs.left_out == {"wrong samples outside the length limits": 2}
    assert make_outcome_pairs(rows[:2], OutcomeRule(max_ratio=2.0)).left_out == {
        "problems whose pairs differ too much in length": 1
    }
    cut = [rows[0], sample("cut off", False, truncated=True)]
    assert make_outcome_pairs(cut, OutcomeRule(keep_truncated=False)).left_out == {"problems without a wrong sample": 1}


def test_problems_that_give_no_pair_are_counted():
    rows = [sample("#### 5", True, 1), sample("#### 6", False, 2), sample("", False, 3), sample("#### 5", True, 3)]
    pairs = make_outcome_pairs(rows, OutcomeRule())
    assert pairs.items == []
    assert pairs.left_out == {
        "problems without a wrong sample": 2,
        "problems without a correct sample": 1,
        "wrong samples outside the length limits": 1,
    }
    assert tally(list(by_problem(rows).values())) == {
        "without a wrong sample": 1,
        "without a correct sample": 1,
        "with both": 1,
    }


PROGRAM = """
import json
from openrlhf_ext.data.outcome_pairs import OutcomeRule, make_outcome_pairs
from openrlhf_ext.data.rft import select_rft
from openrlhf_ext.data.samples import Sample
rows = [Sample(0, "q", "", f"{'word ' * (i % 5)}<<{i % 7}+1={i % 7 + 1}>>{i}", i % 3 > 0, False, t) for t in ("gsm8k", "math") for i in range(40)]
for choose in ("farthest", "shortest", "random"):
    for half in (rows[:40], rows[40:]):
        print(json.dumps([make_outcome_pairs(half, OutcomeRule(choose=choose)).items, [s.text for s in select_rft(half, 3, "edit")]]))
"""


def test_nothing_depends_on_the_hash_seed():
    runs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "7")
    }
    assert len(runs) == 1 and len(runs.pop().splitlines()) == 6


def test_pairs_of_real_solutions(shared_data):
    path = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    if not path.is_file():
        pytest.skip("no example_model_solutions.jsonl")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        solutions = [v for v in json.loads(line).values() if isinstance(v, dict) and "solution" in v]
        rows += [sample(v["solution"], v["is_correct"], number) for v in solutions]
    assert (len(rows), sum(s.correct for s in rows)) == (5276, 2001)
    right = {(s.problem, s.text) for s in rows if s.correct}
    wrong = {(s.problem, s.text) for s in rows if not s.correct}
    assert tally(list(by_problem(rows).values()))["with both"] == 731
    for choose in ("farthest", "shortest", "random"):
        pairs = make_outcome_pairs(rows, OutcomeRule(choose=choose)).items
        for pair in pairs:
            problem = pair["meta"]["problem_id"]
            assert (problem, pair["chosen"]) in right and (problem, pair["rejected"]) in wrong
        rejected = [(pair["meta"]["problem_id"], pair["rejected"]) for pair in pairs]
        assert len(set(rejected)) == len(rejected) > 600
