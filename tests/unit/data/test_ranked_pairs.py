"""Label and rationale pairs: what every pair promises, where the answers come from, and files that are refused."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.data.candidates import Candidate, read_candidates
from openrlhf_ext.data.label_pairs import confusion_of, draw_wrong, label_pair_faults, make_label_pairs
from openrlhf_ext.data.labels import split_answer
from openrlhf_ext.data.ranked_file import read_ranked_pairs
from openrlhf_ext.data.rationale_pairs import find_scorer, make_rationale_pairs, overlap, rationale_pair_faults
from openrlhf_ext.prepare import add_parser
from openrlhf_ext.prepare.label_toy import build_label_toy
from openrlhf_ext.tasks.labels import load_spec

SICK = load_spec("sick")
LABELS = SICK.labels


def answer(problem: str, gold: str, label: str, rationale: str = "So.", score: float | None = None) -> Candidate:
    return Candidate(problem, f"prompt of {problem}", gold, label, rationale, score)


answers = st.lists(
    st.builds(
        lambda p, label, rationale, score: answer(p, LABELS[int(p) % 3], label, rationale, score),
        st.sampled_from("0123456"),
        st.sampled_from(LABELS),
        st.sampled_from(["", "Both move.", "One sits.", "They differ."]),
        st.integers(0, 3).map(float),
    ),
    max_size=40,
)


@given(answers, st.integers(1, 4), st.integers(0, 3))
def test_every_label_pair_has_the_gold_label_above_another_known_one(
    given_answers: list[Candidate], per_problem: int, seed: int
) -> None:
    gold = {a.problem: a.gold for a in given_answers}
    found = make_label_pairs(given_answers, per_problem=per_problem, seed=seed).items
    for pair in found:
        problem = str(pair["meta"]["problem_id"])
        assert pair["prompt"] == f"prompt of {problem}"
        assert label_pair_faults(pair["chosen"], pair["rejected"], SICK, gold[problem]) == []
        assert pair["meta"]["label"] == gold[problem] != pair["meta"]["rejected_label"]
    assert max(Counter(p["meta"]["problem_id"] for p in found).values(), default=0) <= per_problem
    texts = [(p["prompt"], p["chosen"], p["rejected"]) for p in found]
    assert len(set(texts)) == len(texts)


@given(answers, st.integers(0, 3), st.booleans())
def test_every_rationale_pair_has_one_label_and_a_better_text_above(
    given_answers: list[Candidate], seed: int, gold_only: bool
) -> None:
    gold = {a.problem: a.gold for a in given_answers}
    found = make_rationale_pairs(given_answers, find_scorer("score"), seed=seed, gold_only=gold_only).items
    for pair in found:
        assert rationale_pair_faults(pair["chosen"], pair["rejected"], SICK) == []
        assert pair["meta"]["chosen_score"] > pair["meta"]["rejected_score"]
        if gold_only:
            assert pair["meta"]["label"] == gold[str(pair["meta"]["problem_id"])]


def test_a_pair_depends_on_its_problem_and_the_seed_alone() -> None:
    one = [answer("1", "neutral", label, r) for label in LABELS for r in ("a.", "b.")]
    other = [answer("2", "entailment", label, r) for label in LABELS for r in ("a.", "b.")]
    assert make_label_pairs(one).items == [
        p for p in make_label_pairs(other + one).items if p["meta"]["problem_id"] == "1"
    ]
    assert len({str(make_label_pairs(one, seed=seed).items) for seed in range(20)}) > 1


def test_wrong_labels_are_uniform_or_follow_the_confusion() -> None:
    rng = random.Random(0)
    uniform = Counter(draw_wrong("neutral", ["contradiction", "entailment"], None, rng) for _ in range(4000))
    assert abs(uniform["entailment"] / 4000 - 0.5) < 0.03
    made = confusion_of([answer("1", "neutral", "entailment")] * 3 + [answer("2", "neutral", "contradiction")])
    assert made == {"neutral": {"entailment": 3, "contradiction": 1}}
    hard = Counter(draw_wrong("neutral", ["contradiction", "entailment"], made, rng) for _ in range(4000))
    assert abs(hard["entailment"] / 4000 - 0.75) < 0.03
    never = Counter(draw_wrong("entailment", ["contradiction", "neutral"], made, rng) for _ in range(4000))
    assert abs(never["neutral"] / 4000 - 0.5) < 0.03  # no error with this gold label: uniform


def test_what_gives_no_pair_is_counted() -> None:
    found = make_label_pairs([answer("1", "neutral", "neutral"), answer("2", "neutral", "entailment")])
    assert found.items == [] and sum(found.left_out.values()) == 2
    same = make_rationale_pairs([answer("1", "neutral", "neutral", r, 1.0) for r in "ab"], find_scorer("score"))
    assert same.items == [] and sum(same.left_out.values()) == 1


def test_an_id_with_two_inputs_is_refused() -> None:
    two = [answer("1", "neutral", "neutral"), Candidate("1", "another prompt", "neutral", "entailment", "So.")]
    with pytest.raises(ValueError, match="two different inputs"):
        make_label_pairs(two)


GOOD = ["They move.\nLabel: neutral", "They sit.\nLabel: entailment"]


@pytest.mark.parametrize(
    ("kind", "row", "words"),
    [
        (
            "label",
            {"output": "They move.\nLabel: neutral"},
            "expected a list of two texts [chosen, rejected], found str",
        ),
        ("label", {"output": [*GOOD, "x"]}, "found 3 items"),
        ("label", {"output": GOOD, "label": "entailment"}, "chosen: label neutral, but the gold label is entailment"),
        ("label", {"output": [GOOD[0], "They sit.\nLabel: maybe"]}, "rejected: label 'maybe' is none of"),
        ("label", {"output": [GOOD[0], GOOD[0]]}, "both labels are neutral"),
        ("label", {"output": [GOOD[0], "They sit."]}, "rejected: no line `Label: <x>`"),
        ("label", {"output": ["They move.\nLabel: neut", GOOD[1]]}, "chosen: label 'neut' is none of"),
        ("label", {"output": GOOD, "label": "perhaps"}, "label: 'perhaps' is none of"),
        ("rationale", {"output": GOOD}, "a rationale pair needs equal ones"),
        ("rationale", {"output": [GOOD[0], GOOD[0]]}, "both sides are the same text"),
    ],
)
def test_bad_ranked_pairs_are_refused_by_row(tmp_path: Path, kind: str, row: dict, words: str) -> None:
    good = GOOD if kind == "label" else [GOOD[0], "x.\nLabel: neutral"]
    rows = [{"instruction": "Which?", "input": "A.", "output": output} for output in (good, None)]
    rows[1] |= row
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"pairs\.json:2: ") as error:
        read_ranked_pairs(kind, SICK, path, str)
    assert words in str(error.value)
    path.write_text(json.dumps(rows[:1]))
    (pair,) = read_ranked_pairs(kind, SICK, path, str)
    assert pair["prompt"] == "Which?\nA." and [pair["chosen"], pair["rejected"]] == good


def test_answers_come_from_rows_from_requests_for_a_reason_and_from_samples(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "sentence_A": "x", "sentence_B": "y", "label": "NEUTRAL", "argued": "entailment", "rationale": "r"},
        {
            "prompt": "why?",
            "text": "It moves.\nLabel: neutral",
            "label": json.dumps({"label": "neutral", "argued": "contradiction", "question": "q?", "problem": "b"}),
        },
        {"prompt": "q?", "text": "It sits.\nLabel: entailment", "label": '{"label": "neutral"}', "problem_id": 7},
        {"prompt": "q?", "text": "It sits.", "label": '{"label": "neutral"}'},
        {"prompt": "q?", "text": "It", "label": '{"label": "neutral"}', "truncated": True},
    ]
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = read_candidates(SICK, path, lambda q: "rendered")
    assert [(c.problem, c.prompt, c.gold, c.label, c.rationale) for c in found.items] == [
        ("a", "rendered", "neutral", "entailment", "r"),
        ("b", "q?", "neutral", "contradiction", "It moves."),
        ("7", "q?", "neutral", "entailment", "It sits."),
    ]
    assert sum(found.left_out.values()) == 2
    path.write_text(json.dumps(rows[0] | {"argued": "maybe", "score": "high"}))
    with pytest.raises(ValueError, match="argued") as error:
        read_candidates(SICK, path, str)
    assert "score: expected a number" in str(error.value)


def test_scorers_are_pluggable() -> None:
    assert overlap(Candidate("1", "a small brown dog", "x", "x", "The small horse")) == 0.5
    assert find_scorer("tests.unit.data.test_ranked_pairs:overlap") is not None
    for name in ("nope", "no.such.module:f", "json:nope"):
        with pytest.raises(ValueError, match="--scorer"):
            find_scorer(name)
    with pytest.raises(ValueError, match="no score"):
        find_scorer("score")(answer("1", "neutral", "neutral"))


def test_the_command_writes_pairs_of_both_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    build_label_toy(tmp_path, train=30, test=10)
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    toy = load_spec("label-toy")
    for kind in ("label", "rationale"):
        out = tmp_path / f"{kind}.jsonl"
        line = (
            f"prepare pairs --kind {kind} --task label-toy --in {tmp_path}/rationales.jsonl --per-problem 2 --out {out}"
        )
        args = parser.parse_args(line.split())
        assert args.func(args) == 0
        rows = [json.loads(text) for text in out.read_text().splitlines()]
        assert len(rows) == 60 and all(set(row) == {"prompt", "chosen", "rejected", "meta"} for row in rows)
        sides = [[split_answer(row[side], toy)[1] for side in ("chosen", "rejected")] for row in rows]
        assert all((a == b) == (kind == "rationale") for a, b in sides)
    line += f" --held-out {tmp_path}/held.jsonl"
    (tmp_path / "held.jsonl").write_text(json.dumps({"input": rows[0]["prompt"]}))
    args = parser.parse_args(line.split())
    assert args.func(args) == 0
    left = [json.loads(text) for text in out.read_text().splitlines()]
    assert left == [row for row in rows if row["prompt"] != rows[0]["prompt"]] and len(left) == 58
    (tmp_path / "t.tsv").write_text("fine\t1\ndull\t0\n")
    words = f"prepare pairs --kind label --bare --task sst2 --in {tmp_path}/t.tsv --out {out}"
    args = parser.parse_args(words.split())
    assert args.func(args) == 0
    made = [json.loads(text) for text in out.read_text().splitlines()]
    sides = [(row["chosen"], row["rejected"]) for row in made]
    assert sides == [("Label: positive", "Label: negative"), ("Label: negative", "Label: positive")]
    args = parser.parse_args(
        ["prepare", "pairs", "--kind", "label", "--in", "x", "--out", "y.jsonl", "--task", "gsm8k"]
    )
    assert args.func(args) == 2 and "label task" in capsys.readouterr().err
