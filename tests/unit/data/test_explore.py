"""Pits, levels, resume and figures against programs that know where a chain is wrong."""

import itertools
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrlhf_ext.data.explore import Budget, Exploration, Walk, WrongSolution, figures, walks_of
from openrlhf_ext.data.outcome_pairs import outcome_pair
from openrlhf_ext.data.samples import Sample
from openrlhf_ext.data.wrong_solutions import from_pairs, from_samples
from openrlhf_ext.rollout.explore import PrefixRequest, Sampled, explore, graded, sample_seed
from openrlhf_ext.tasks import make_task

CHAIN = make_task({"name": "chain"})


def chain(numbers: Sequence[int], corrupt: int | None = None) -> tuple[str, list[str]]:
    """The gold answer of a running sum and its lines; the result of line `corrupt` (1 = first) is one too large, and so are all later ones."""
    total, lines = numbers[0], []
    for at, number in enumerate(numbers[1:], start=1):
        result = total + number + (at == corrupt)
        lines.append(f"{total}+{number}={result}\n")
        total = result
    wrong_answer = corrupt == len(numbers)
    lines.append(f"#### {total + wrong_answer}")
    return str(sum(numbers)), lines


def wrong(numbers: Sequence[int], corrupt: int | None, name: str = "0") -> WrongSolution:
    gold, lines = chain(numbers, corrupt)
    prompt = "+".join(map(str, numbers)) + "\n"
    return WrongSolution(name, name, prompt, json.dumps({"answer": gold}), "chain", tuple(lines), True, "y+")


def oracle(success: Callable[[PrefixRequest, bool], bool], calls: list[PrefixRequest] | None = None):
    """Completes right where `success(request, prefix is consistent)` says so."""

    def sample(requests: Sequence[PrefixRequest]) -> list[Sampled]:
        found = []
        for request in requests:
            if calls is not None:
                calls.append(request)
            question, *lines = request.prefix.rstrip("\n").split("\n")
            numbers = [int(n) for n in question.split("+")]
            right = chain(numbers)[1]
            consistent = lines == [line.rstrip("\n") for line in right[: len(lines)]]
            rest = "".join(right[len(lines) :]) or f"#### {sum(numbers)}"
            found.append(Sampled(rest if success(request, consistent) else "#### -1", 5))
        return found

    return sample


TWO = Budget(k=2)


def run(solutions, sample, budget=TWO, **options) -> tuple[Exploration, list[dict]]:
    exploration, rows = Exploration(solutions, budget), []
    explore(exploration, sample, CHAIN, rows.extend, **options)
    return exploration, rows


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("corrupt", [1, 2, 3, 4, 5])
def test_the_pit_is_the_corrupted_step(corrupt, k):
    calls: list[PrefixRequest] = []
    exploration, _ = run([wrong([3, 4, 5, 6, 7], corrupt)], oracle(lambda _, ok: ok, calls), Budget(k))
    walk = exploration.walks[0]
    assert (walk.pit, walk.end) == (corrupt, "pit")
    # Exploration stops at the pit; the answer line is judged without sampling.
    assert len(calls) == k * min(corrupt, 4)
    assert figures(exploration.walks)["answer_line_pits"] == (corrupt == 5)


def test_a_solution_that_can_always_be_saved_has_no_pit():
    solution = wrong([3, 4, 5], None)
    unanswered = WrongSolution("1", 1, solution.prompt, solution.label, "chain", solution.steps[:2], False, None)
    exploration, _ = run([unanswered], oracle(lambda _, ok: ok))
    assert (exploration.walks[0].pit, exploration.walks[0].end) == (None, "none")
    capped, _ = run([wrong([1] * 9, 8)], oracle(lambda _, ok: ok), Budget(k=2, steps_cap=3))
    assert (capped.walks[0].end, len(capped.walks[0].completions)) == ("cap", 3)


@given(st.lists(st.integers(1, 50), min_size=3, max_size=7), st.data())
@settings(max_examples=40)
def test_any_corrupted_chain(numbers, data):
    corrupt = data.draw(st.integers(1, len(numbers)))
    exploration, _ = run([wrong(numbers, corrupt)], oracle(lambda _, ok: ok))
    assert exploration.walks[0].pit == corrupt


def test_a_level_is_one_wave_over_all_open_solutions():
    waves: list[list[PrefixRequest]] = []
    inner = oracle(lambda _, ok: ok)

    def sample(requests):
        waves.append(list(requests))
        return inner(requests)

    corrupt = [1, 3, 2, 4]
    solutions = [wrong([3, 4, 5, 6, 7], c, str(i)) for i, c in enumerate(corrupt)]
    run(solutions, sample, Budget(k=3))
    assert [[r.group for r in wave[::3]] for wave in waves] == [[0, 1, 2, 3], [1, 2, 3], [1, 3], [3]]
    lines = [{request.prefix.count("\n") for request in wave} for wave in waves]
    assert lines == [{2}, {3}, {4}, {5}]
    assert len({request.seed for wave in waves for request in wave}) == sum(map(len, waves))


S = (0.9, 0.6, 0.3, 0.2)


def expected(k: int) -> list[float]:
    """P(pit = i) = (1 - s_i)^k * product over j < i of 1 - (1 - s_j)^k; the answer line is left for the rest."""
    found, alive = [], 1.0
    for s in S:
        found.append(alive * (1 - s) ** k)
        alive *= 1 - (1 - s) ** k
    return [*found, alive]


@pytest.mark.parametrize("k", [1, 4])
def test_a_noisy_oracle_gives_the_distribution_of_the_formula(k):
    count = 4000

    def noisy(request: PrefixRequest, _: bool) -> bool:
        return random.Random(request.seed).random() < S[request.prefix.count("\n") - 2]

    exploration, _ = run([wrong([1, 2, 3, 4, 5], 1, str(i)) for i in range(count)], oracle(noisy), Budget(k))
    pits = Counter(walk.pit for walk in exploration.walks)
    for pit, share in enumerate(expected(k), start=1):
        spread = (share * (1 - share) / count) ** 0.5
        assert abs(pits[pit] / count - share) <= 4 * spread + 1e-9
    passed = figures(exploration.walks)["pass_rate"]
    assert all(abs(passed[str(i + 1)] - S[i]) < 0.06 for i in range(2))


def test_more_samples_move_pits_later():
    means = [sum(i * p for i, p in enumerate(expected(k), start=1)) for k in (1, 2, 4, 16)]
    assert means == sorted(means) and means[-1] > means[0] + 1


def test_a_pit_is_asked_again_with_confirm():
    calls: list[PrefixRequest] = []
    # At step 1 the first two samples fail and the third succeeds; step 2 is really wrong.
    solution = wrong([3, 4, 5], 2)
    seeds = {sample_seed(42, due, 2) for due in [Walk(solution, Budget(2, 3)).due()]}
    exploration, rows = run([solution], oracle(lambda r, ok: ok and r.seed in seeds, calls), Budget(2, confirm=3))
    assert exploration.walks[0].pit == 2 and len(calls) == 10
    assert [(r["step"], r["round"], len(r["completions"])) for r in rows] == [
        (1, 0, 2),
        (1, 1, 3),
        (2, 0, 2),
        (2, 1, 3),
    ]
    without, _ = run([solution], oracle(lambda r, ok: ok and r.seed in seeds), Budget(2))
    assert without.walks[0].pit == 1


@pytest.mark.parametrize("gold", ["1,000", "$1,000.", "1000.0", "1000", " 1000 dollars"])
def test_the_form_of_the_gold_answer_does_not_matter(tmp_path, gold):
    """The original compared the raw text of one side with the normalised text of the other: every such problem had its pit at step 1."""
    pair = {"prompt": "q\n", "chosen": f"a\n#### {gold}", "rejected": "500+500=1000\n1000+1=1001\n#### 1001"}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(pair) + "\n")
    solutions = from_pairs(path, make_task({"name": "gsm8k"}), "lines").items
    exploration, rows = Exploration(solutions, Budget(k=1)), []

    def sample(requests):
        return [
            Sampled("The answer is 1,000" if r.prefix.endswith("=1000\n") else "The answer is 1", 4) for r in requests
        ]

    explore(exploration, sample, make_task({"name": "gsm8k"}), rows.extend)
    assert exploration.walks[0].pit == 2


def test_completions_are_judged_alone_at_their_first_answer():
    label = '{"answer": "5"}'
    assert graded("x\n#### 5\n#### 6\n", 9, label, CHAIN) == {"text": "x\n#### 5", "correct": True, "tokens": 9}
    assert graded("x\n#### 6\n#### 5\n", 9, label, CHAIN)["correct"] is False
    assert graded("", 0, label, CHAIN)["correct"] is False


def many() -> list[WrongSolution]:
    corrupt = itertools.cycle([2, 5, 1, 3, 4])
    return [wrong([i, i + 1, 2 * i, 7, 3], next(corrupt), str(i)) for i in range(1, 24)]


NOISY = oracle(lambda request, ok: ok and request.seed % 3 > 0)


@pytest.mark.parametrize("wave", [4, 30, 8192])
def test_the_rows_do_not_depend_on_the_wave(wave):
    assert run(many(), NOISY, Budget(2, 2), wave=wave)[1] == run(many(), NOISY, Budget(2, 2))[1]


def test_a_run_that_was_stopped_anywhere_goes_on_to_the_same_rows():
    whole = run(many(), NOISY, Budget(2, 2), wave=8)[1]
    for kept in range(0, len(whole) + 1, 3):
        exploration, rows = Exploration(many(), Budget(2, 2)), list(whole[:kept])
        for row in rows:
            exploration.observe(row)
        explore(exploration, NOISY, CHAIN, rows.extend, wave=8)
        assert rows == whole


def test_rows_of_another_exploration_are_refused():
    whole = run(many(), NOISY)[1]
    exploration = Exploration(many(), Budget(k=3))
    with pytest.raises(ValueError, match="was it explored otherwise"):
        exploration.observe(whole[0])
    exploration = Exploration(many(), Budget(k=2))
    with pytest.raises(ValueError, match=r"where \('1', 1, 0, 2\) belongs"):
        exploration.observe(whole[1])


def test_walks_are_read_back_from_the_rows():
    solutions = many()
    exploration, rows = run(solutions, NOISY, Budget(2, 2))
    stored = json.loads(json.dumps([*(s.row() for s in solutions), *rows]))
    assert walks_of(stored, Budget(2, 2)) == exploration.walks
    with pytest.raises(ValueError, match="does not follow"):
        walks_of([row for row in stored if row != stored[len(solutions)]], Budget(2, 2))


def test_figures():
    solutions = [wrong([3, 4, 5, 6], 2, "a"), wrong([3, 4, 5, 6], 4, "b"), wrong([3], 1, "c")]
    exploration, _ = run(solutions, oracle(lambda _, ok: ok), Budget(k=2))
    assert figures(exploration.walks) == {
        "solutions": 3,
        "pits": 3,
        "no_pit": 0,
        "capped": 0,
        "unexplored": 0,
        "answer_line_pits": 2,
        "one_step": 1,
        "pit_histogram": {"1": 1, "2": 1, "4": 1},
        "pass_rate": {"1": 1.0, "2": 0.5, "3": 1.0},
        "completions": 10,
        "completions_without_stop": 18,
        "share": 10 / 18,
        "tokens": 50,
    }


def test_solutions_of_samples(tmp_path):
    def row(problem, text, correct, **more):
        label = '{"answer": "5"}'
        return {
            "prompt": f"q{problem}\n",
            "label": label,
            "text": text,
            "correct": correct,
            "problem_id": problem,
        } | more

    rows = [
        row(0, "2+3=5\n#### 5", True),
        row(0, "1+4=5\n#### 5", True),
        row(0, "2+3=6\n\n#### 6\nand more", False),
        row(0, "2+3=6\n\n#### 6\nand more", False),
        row(0, "2+3=7\n2+", False, truncated=True),
        row(0, " \n\n", False),
        row(1, "2+3=8\n", False),
        row(2, "#### 5", True),
        row(3, "#### 5\n#### 6", False),  # right by its first answer
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"prompt": "cut')
    found = from_samples(path, CHAIN, "lines")
    assert [(s.id, s.steps, s.answered, s.chosen) for s in found.items] == [
        ("0-0", ("2+3=6\n", "#### 6"), True, "2+3=5\n#### 5"),
        ("0-1", ("2+3=7\n",), False, "1+4=5\n#### 5"),
        ("1-0", ("2+3=8\n",), False, None),
    ]
    assert found.left_out == {
        "empty solutions": 1,
        "problems without a wrong sample": 2,
        "problems without a correct sample (explored; a pit at their first step gives no pair)": 1,
    }
    assert found.torn == (f"{path}:10",)
    assert len(from_samples(path, CHAIN, "lines", per_problem=1).items) == 2


def test_a_pair_remembers_that_its_wrong_solution_was_cut_off(tmp_path):
    right = Sample(0, "q\n", '{"answer": "5"}', "2+3=5\n#### 5", True, False, "chain")
    cut = replace(right, text="2+3=7\n7+", correct=False, truncated=True)
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(outcome_pair(right, s)) + "\n" for s in (cut, replace(cut, truncated=False))))
    unfinished, finished = from_pairs(path, CHAIN, "lines").items
    assert unfinished.steps == ("2+3=7\n",) and finished.steps == ("2+3=7\n", "7+")


def test_bad_pairs_are_named(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "q", "chosen": "a"}\n{"prompt": "q", "chosen": "no answer", "rejected": "#### 3"}\n')
    with pytest.raises(ValueError, match=r"p.jsonl:1: rejected: missing"):
        from_pairs(path, CHAIN, "lines")
    path.write_text('{"prompt": "q", "chosen": "no answer", "rejected": "#### 3"}\n')
    assert from_pairs(path, CHAIN, "lines").left_out == {"solutions without a gold answer": 1}


PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from test_explore import NOISY, many, run
from openrlhf_ext.data.explore import Budget
print(json.dumps(run(many(), NOISY, Budget(2, 2))[1]))
"""


def test_nothing_depends_on_the_hash_seed():
    here = str(__import__("pathlib").Path(__file__).parent)
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM, here],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "3")
    }
    assert len(outputs) == 1 and len(json.loads(outputs.pop())) > 40
