"""24-point pairs: the first wrong line against what the search does from the state before it."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrlhf_ext.cli import main
from openrlhf_ext.data.samples import Sample
from openrlhf_ext.data.trace_pairs import TraceRule, make_trace_pairs
from openrlhf_ext.tasks.game24.checker import check_strict
from openrlhf_ext.tasks.game24.continuation import continuation, format_of, replay
from openrlhf_ext.tasks.game24.puzzles import solvable_puzzles
from openrlhf_ext.tasks.game24.traces import FORMATS, prune, render, rewrite, search, state_text

CASE = (4, 2, 6, 3)
LABEL = json.dumps({"numbers": list(CASE), "target": 24})
PUZZLES = solvable_puzzles(4, 13, 24)[::40]


def sample(text: str, truncated: bool = False, label: str = LABEL, problem: int = 0, correct: bool = False) -> Sample:
    return Sample(problem, "4 2 6 3\n", label, text, correct, truncated, "game24")


def test_states_of_right_lines():
    lines = [
        "(4) - (2) = 2, left: (4 - 2) = 2, 6, 3",
        "(2) * (3) = 6, left: ((4 - 2) * 3) = 6, 6",
        "roll back, left: (4 - 2) = 2, 6, 3",
        "roll back, left: 4 2 6 3",
        "(6) / (3) = 2, left: (6 / 3) = 2, 4, 2",
    ]
    stack = replay(CASE, lines)
    assert [state_text(state) for state in stack] == ["4, 2, 6, 3", "(6 / 3) = 2, 4, 2"]
    # Two cards are worth 2: the print says which of them was used.
    assert state_text(replay(CASE, [*lines, "(4) + (2) = 6, left: (4 + 2) = 6, (6 / 3) = 2"])[-1]) == (
        "(4 + 2) = 6, (6 / 3) = 2"
    )
    assert state_text(replay(CASE, [*lines, "(4) + (2) = 6, left: (4 + (6 / 3)) = 6, 2"])[-1]) == (
        "(4 + (6 / 3)) = 6, 2"
    )
    for bad in ("hello", "roll back, left: 1 2 3 4", "(9) + (9) = 18, left: 18, 4"):
        with pytest.raises(ValueError):
            replay(CASE, [*lines, bad])


def test_a_dead_state_is_left_parent_by_parent():
    lines = ["(6) / (4) = 3/2, left: (6 / 4) = 3/2, 2, 3", "(3/2) / (2) = 3/4, left: ((6 / 4) / 2) = 3/4, 3"]
    text = continuation(replay(CASE, lines), random.Random(0), target=24, lines=1)
    assert text.split("\n")[:2] == ["roll back, left: (6 / 4) = 3/2, 2, 3", "roll back, left: 4 2 6 3"]
    check = check_strict("\n".join([*lines, text]), CASE, 24)
    assert check.solved and not check.wrong


@given(st.sampled_from(PUZZLES), st.integers(0, 10**6), st.sampled_from(FORMATS), st.integers(1, 30))
@settings(max_examples=60)
def test_prefix_and_continuation_are_a_right_trace(numbers, seed, form, length):
    """From anywhere in any trace, in any format."""
    rng = random.Random(seed)
    tree = search(numbers, rng)
    lines = rewrite(render(tree, prune(tree, rng.randint(6, 17), rng)), form).split("\n")
    prefix = lines[: rng.randrange(len(lines))]
    ending = continuation(replay(numbers, prefix), rng, target=24, lines=length, form=form)
    check = check_strict("\n".join([*prefix, ending]), numbers, 24)
    assert check.solved and check.wrong == (), (prefix, ending)


def test_the_length_is_matched():
    lengths = {
        want: len(continuation(replay(CASE, []), random.Random(5), target=24, lines=want).split("\n"))
        for want in range(1, 15)
    }
    assert lengths == {want: 4 if want < 4 else want - want % 2 for want in range(1, 15)}


RIGHT = "(4) * (6) = 24, left: (4 * 6) = 24, 2, 3"


def test_the_first_wrong_line_and_everything_after_it_is_rejected():
    wrong = "(24) - (2) = 21, left: ((4 * 6) - 2) = 21, 3"
    after = "(21) + (3) = 24, left: (((4 * 6) - 2) + 3) = 24\nreach 24! expression: (((4 * 6) - 2) + 3)"
    pairs = make_trace_pairs([sample(f"{RIGHT}\n{wrong}\n{after}")], TraceRule())
    [pair] = pairs.items
    assert pair["prompt"] == f"4 2 6 3\n{RIGHT}\n" and pair["rejected"] == f"{wrong}\n{after}"
    assert pair["meta"] | {"label": ""} == {
        "kind": "step",
        "problem_id": 0,
        "pit": 2,
        "steps": 4,
        "rest": "",
        "label": "",
        "task": "game24",
    }
    whole = check_strict(f"{RIGHT}\n{pair['chosen']}", CASE, 24)
    assert whole.solved and not whole.wrong
    short = make_trace_pairs([sample(f"{RIGHT}\n{wrong}\n{after}")], TraceRule(max_lines=1)).items[0]
    assert short["rejected"] == wrong + "\n"


def test_a_wrong_final_line_at_24_is_answered_by_the_right_one():
    lines = [
        "(4) * (6) = 24, left: (4 * 6) = 24, 2, 3",
        "(3) - (2) = 1, left: (3 - 2) = 1, (4 * 6) = 24",
        "(24) * (1) = 24, left: ((4 * 6) * (3 - 2)) = 24",
    ]
    pairs = make_trace_pairs([sample("\n".join([*lines, "reach 24! expression: (4 * 6)"]))], TraceRule())
    assert [(p["chosen"], p["rejected"]) for p in pairs.items] == [
        ("reach 24! expression: ((4 * 6) * (3 - 2))", "reach 24! expression: (4 * 6)")
    ]


def test_what_gives_no_pair_is_counted():
    tree = search(CASE, random.Random(1))
    gold = render(tree, prune(tree, 8, random.Random(1)))
    rows = [
        sample(gold, correct=True),
        sample(""),
        sample("\n \n"),
        sample(RIGHT),
        sample(f"{RIGHT}\n(24) - (2", truncated=True),
        sample("x", label="{}"),
        sample("nonsense"),
        sample("nonsense\nmore"),
    ]
    pairs = make_trace_pairs(rows, TraceRule())
    assert len(pairs.items) == 1 and pairs.left_out == {
        "traces without a wrong line": 1,
        "empty traces": 2,
        "unfinished traces without a wrong line": 2,
        "traces without a puzzle in their label": 1,
        "repeats of the same wrong line at the same place": 1,
    }
    blamed = make_trace_pairs([sample(f"{RIGHT}\n(24) - (2", truncated=True)], TraceRule(unfinished="last"))
    assert [(p["prompt"], p["rejected"]) for p in blamed.items] in ([("4 2 6 3\n", RIGHT)], [])


def test_formats_are_seen():
    assert format_of([RIGHT]) == "v3"
    assert format_of(["(4) * (6) = 24, left: 24, 2, 3", "roll back, left: 4 2 6 3"]) == "v2"
    assert format_of(["(4) * (6) = 24, left: 24, 2, 3"]) is None
    bare = sample("(4) * (6) = 24, left: 24, 2, 3\nnonsense")
    rolled = sample("(4) * (6) = 24, left: 24, 2, 3\nroll back, left: 4 2 6 3\nnonsense")
    for rows, mark in (([bare, rolled], "v2"), ([bare], "v1")):
        chosen = make_trace_pairs(rows, TraceRule(max_lines=12)).items[0]["chosen"]
        assert "=" not in chosen.split("left: ")[1].split("\n")[0], mark
        assert mark == "v2" or "roll back" not in chosen


def test_the_command(tmp_path, capsys):
    rows = [
        {
            "prompt": "4 2 6 3\n",
            "label": LABEL,
            "text": f"{RIGHT}\nnonsense {i}",
            "scores": 0,
            "task": "game24",
            "problem_id": i,
        }
        for i in range(3)
    ]
    source, out = tmp_path / "t.jsonl", tmp_path / "p.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"pro')
    words = ["prepare", "pairs", "--kind", "step", "--in", str(source), "--out", str(out)]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "skipped 1 half-written lines" in told and "2 repeats of the same wrong line" not in told
    first = out.read_bytes()
    assert main([*words, "--task", "game24"]) == 0 and out.read_bytes() == first
    assert main([*words, "--rejected", "suffix"]) == 2
