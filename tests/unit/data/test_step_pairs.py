"""Step pairs: what is chosen, what is rejected, and what gives no pair."""

import json
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.data.explore import Budget, Exploration, Walk, WrongSolution
from openrlhf_ext.data.explore_file import head_rows, read_explored
from openrlhf_ext.data.step_pairs import StepRule, make_step_pairs
from openrlhf_ext.rollout.explore import Sampled, explore
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.steps import line_steps

BUDGET = Budget(k=3)
PIT = StepRule("pit")


def completion(text: str, correct: bool = True) -> dict:
    return {"text": text, "correct": correct, "tokens": 3}


def walk(name: str, *levels: list[dict], problem: int = 0, chosen: str | None = "right\n#### 5", **changes) -> Walk:
    """A solution of three steps with an answer line; `levels` are the completions of steps 1, 2 ..."""
    fields = {
        "id": name,
        "problem": problem,
        "prompt": f"q{problem}\n",
        "label": '{"answer": "5"}',
        "task": "gsm8k",
        "steps": (f"{name}1\n", f"{name}2\n", "#### 6"),
        "answered": True,
        "chosen": chosen,
    }
    found = Walk(WrongSolution(**(fields | changes)), BUDGET)
    for level in levels:
        found.observe(level)
    return found


BAD = [completion("no", False)] * 3


def brief(pairs) -> list[tuple[str, str, str]]:
    return [(pair["prompt"], pair["chosen"], pair["rejected"]) for pair in pairs.items]


def test_the_shortest_correct_completion_against_the_pit_alone():
    good = [completion("a long way\n#### 5"), completion("x", False), completion("short\n#### 5")]
    pairs = make_step_pairs([walk("a", good, BAD)], PIT)
    assert brief(pairs) == [("q0\na1\n", "short\n#### 5", "a2\n")]
    assert pairs.items[0]["meta"] == {
        "kind": "step",
        "problem_id": 0,
        "solution": "a",
        "pit": 2,
        "steps": 3,
        "rest": "#### 6",
        "label": '{"answer": "5"}',
        "task": "gsm8k",
    }
    assert brief(make_step_pairs([walk("a", good, BAD)], StepRule("suffix"))) == [
        ("q0\na1\n", "short\n#### 5", "a2\n#### 6")
    ]


def test_a_pit_at_the_first_step_takes_the_whole_correct_solution():
    assert brief(make_step_pairs([walk("a", BAD)], PIT)) == [("q0\n", "right\n#### 5", "a1\n")]
    none = make_step_pairs([walk("a", BAD, chosen=None)], PIT)
    assert none.items == [] and none.left_out == {"pits at the first step of problems without a correct solution": 1}


def test_an_answer_line_as_the_pit_is_never_empty():
    """The original cut the text from "The answer is" on: the rejected side became empty."""
    good = [completion("#### 5")]
    pairs = make_step_pairs([walk("a", good, good)], PIT)
    assert brief(pairs) == [("q0\na1\na2\n", "#### 5", "#### 6")]
    one_step = walk("b", steps=("The answer is 44\n",))
    assert brief(make_step_pairs([one_step], PIT)) == [("q0\n", "right\n#### 5", "The answer is 44\n")]


def test_a_chosen_text_is_used_once_per_problem():
    good = [completion("s\n#### 5"), completion("longer\n#### 5")]
    walks = [
        walk("a", good, BAD),
        walk("b", good, BAD),  # the next shortest
        walk("c", good, BAD),  # none is left
        walk("d", good, BAD, problem=1),  # another problem
    ]
    pairs = make_step_pairs(walks, PIT)
    assert [chosen for _, chosen, _ in brief(pairs)] == ["s\n#### 5", "longer\n#### 5", "s\n#### 5"]
    assert pairs.left_out == {"pits whose correct completions are all used by other pairs of the problem": 1}


def test_a_rejected_text_is_used_once_per_problem():
    twins = [walk("a", [completion(f"{i}\n#### 5")], BAD, id=str(i)) for i in range(2)]
    pairs = make_step_pairs(twins, PIT)
    assert len(pairs.items) == 1
    assert pairs.left_out == {"pits whose text another pair of the problem rejects": 1}


def test_a_completion_that_begins_with_the_pit_is_passed_over():
    good = [completion("a2\n#### 5"), completion("something else\n#### 5")]
    assert brief(make_step_pairs([walk("a", good, BAD)], PIT))[0][1] == "something else\n#### 5"
    assert make_step_pairs([walk("a", good[:1], BAD)], PIT).left_out == {
        "pits with which every correct completion begins": 1
    }


def test_what_has_no_pit_is_counted():
    good = [completion("#### 5")]
    endless = walk("a", good, good, good, steps=("1\n", "2\n", "3\n"), answered=False)
    open_walk = walk("b", good)
    assert endless.end == "none" and not open_walk.end
    assert make_step_pairs([endless, open_walk], PIT).left_out == {
        "solutions without a pit": 1,
        "solutions not explored to the end": 1,
    }
    assert len(make_step_pairs([walk(n, BAD, chosen=n) for n in "xyz"], StepRule(per_problem=2)).items) == 2


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2), st.sampled_from("abc")), max_size=12))
def test_pairs_keep_their_promises(cases):
    """Whatever the walks: never empty, chosen correct and new, rejected new, the prompt everything before the pit."""
    walks = []
    for number, (pit, problem, word) in enumerate(cases):
        steps = tuple(f"{word}{i}\n" for i in range(1, 5))
        levels = [[completion(f"{word * (i + 1)}\n#### 5"), completion("no", False)] for i in range(1, pit)]
        walks.append(walk(str(number), *levels, BAD, problem=problem, steps=steps, answered=False))
    for rule in (PIT, StepRule("suffix")):
        pairs = make_step_pairs(walks, rule)
        assert len(pairs.items) + sum(pairs.left_out.values()) == len(walks)
        by_name = {w.solution.id: w for w in walks}
        for pair in pairs.items:
            mine = by_name[str(pair["meta"]["solution"])]
            pit = mine.pit or 0
            assert pair["rejected"].strip() and pair["chosen"].strip()
            assert pair["prompt"] == mine.solution.prompt + "".join(mine.solution.steps[: pit - 1])
            assert pair["prompt"] + pair["rejected"] + str(pair["meta"]["rest"]) == mine.solution.prompt + "".join(
                mine.solution.steps
            )
        ordered = sorted(pairs.items, key=lambda p: int(p["meta"]["problem_id"]))
        for _, group in groupby(ordered, key=lambda p: p["meta"]["problem_id"]):
            mine = list(group)
            assert len({p["chosen"] for p in mine}) == len({p["rejected"] for p in mine}) == len(mine)


def test_the_file_is_read_back(tmp_path):
    walks = [walk("a", [completion("#### 5")], BAD), walk("b", BAD)]
    steps = [
        {"kind": "step", "id": w.solution.id, "step": step, "round": 0, "completions": completions}
        for w in walks
        for step, completions in w.completions.items()
    ]
    rows = [*head_rows({"seed": 1}, BUDGET, [w.solution for w in walks]), *steps]
    path = tmp_path / "e.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "st')
    explored = read_explored(path)
    assert (explored.budget, explored.walks, explored.torn) == (BUDGET, walks, (f"{path}:7",))
    path.write_text('{"prompt": "x"}\n')
    with pytest.raises(ValueError, match="no output of explore"):
        read_explored(path)
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows[:3], *rows[4:]]))
    with pytest.raises(ValueError, match="does not follow"):
        read_explored(path)


def test_real_solutions(shared_data):
    """Splitting, exploring with an oracle and building pairs over all wrong solutions that have a right sibling."""
    path = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    if not path.is_file():
        pytest.skip("no example_model_solutions.jsonl")
    task, solutions, right = make_task({"name": "gsm8k"}), [], {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        answers = [v for v in row.values() if isinstance(v, dict) and "solution" in v]
        gold = row["ground_truth"].rpartition("A: ")[2]
        right[number] = {a["solution"] for a in answers if a["is_correct"]}
        chosen = sorted(right[number])[0] if right[number] else None
        label = json.dumps({"answer": gold})
        for name, answer in enumerate(answers):
            steps = tuple(line_steps(answer["solution"]))
            if not answer["is_correct"] and steps:
                solutions.append(
                    WrongSolution(
                        f"{number}-{name}", number, row["question"] + "\n", label, "gsm8k", steps, False, chosen
                    )
                )

    def sample(requests):
        gold = {walk.solution.prompt: json.loads(walk.solution.label)["answer"] for walk in exploration.walks}
        return [
            Sampled(f"so {r.seed}\n#### {gold[r.prefix.partition(chr(10))[0] + chr(10)] if r.seed % 3 else 'x'}", 5)
            for r in requests
        ]

    exploration, rows = Exploration(solutions, Budget(k=2)), []
    explore(exploration, sample, task, rows.extend)
    pairs = make_step_pairs(exploration.walks, PIT).items
    assert len(pairs) > 500
    by_name = {s.id: s for s in solutions}
    for pair in pairs:
        solution, pit = by_name[str(pair["meta"]["solution"])], int(pair["meta"]["pit"])
        assert pair["prompt"] == solution.prefix(pit - 1) and pair["rejected"] == solution.steps[pit - 1] != ""
        whole = pair["chosen"] in right[int(pair["meta"]["problem_id"])]
        assert whole if pit == 1 else task.verify(pair["chosen"], solution.label).correct
    rejected = [(pair["meta"]["problem_id"], pair["rejected"]) for pair in pairs]
    assert len(set(rejected)) == len(rejected)
