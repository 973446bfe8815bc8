"""Figures of graded rows, by hand."""

import pytest

from openrlhf_ext.evaluate.summary import compare_with_first, markdown, summarise_model


def row(problem: int, correct: bool, unfinished: bool = False, sample: int = 0, tokens: int = 10) -> dict:
    return {
        "problem_id": problem,
        "sample": sample,
        "correct": correct,
        "reward": 1.0 if correct else 0.25,
        "parsed": not unfinished,
        "metrics": {"outcome": float(correct), "unfinished": float(unfinished), "lines": 3.0},
        "truncated": unfinished,
        "tokens": tokens,
    }


GREEDY = [row(0, True), row(1, False), row(2, False, unfinished=True), row(3, True, tokens=30)]
SAMPLED = [row(0, s == 0, sample=s) for s in range(4)] + [row(1, False, sample=s) for s in range(4)]


def test_shares_add_up_and_means_are_means():
    summary = summarise_model(GREEDY, [], 1)
    assert (summary["accuracy"], summary["incorrect"], summary["unfinished"]) == (0.5, 0.25, 0.25)
    assert summary["reward"] == pytest.approx(0.625)
    assert summary["length"] == 15 and summary["truncated"] == 0.25
    assert summary["part/outcome"] == 0.5 and summary["part/lines"] == 3
    # Wilson 2 of 4: scale 1.9603647, centre 0.5, half = 1.959964 sqrt(0.0625 + 0.0600228) / 1.9603647 = 0.3499605
    assert (summary["accuracy_low"], summary["accuracy_high"]) == pytest.approx((0.15004, 0.84996), abs=1e-4)
    assert not any(key.startswith("pass@") for key in summary)


def test_pass_rates_are_the_unbiased_estimates():
    summary = summarise_model(GREEDY, SAMPLED, 4)
    # Problem 0 has one right answer of four, problem 1 none.
    assert summary["pass@1"] == pytest.approx((0.25 + 0) / 2)
    assert summary["pass@2"] == pytest.approx((0.5 + 0) / 2)
    assert summary["pass@4"] == pytest.approx((1.0 + 0) / 2)
    assert summary["pass_problems"] == 2 and summary["sampled/reward"] == pytest.approx((1 + 7 * 0.25) / 8)


def test_tasks_without_unfinished_count_unparsed_answers():
    plain = [r | {"metrics": {"answered": 1.0}} for r in GREEDY]
    summary = summarise_model(plain, [], 1)
    assert (summary["incorrect"], summary["unfinished"]) == (0.25, 0.25)


def test_a_solved_row_is_never_unfinished():
    summary = summarise_model([row(0, True, unfinished=True)], [], 1)
    assert (summary["accuracy"], summary["unfinished"], summary["incorrect"]) == (1, 0, 0)


def test_every_later_model_is_compared_with_the_first():
    better = [row(0, True), row(1, True), row(2, True), row(3, True)]
    worse = [row(i, False) for i in range(4)]
    found = compare_with_first({"base": GREEDY, "better": better, "worse": worse})
    assert list(found) == ["better", "worse"]
    assert (found["better"].only_first, found["better"].only_second, found["better"].difference) == (0, 2, 0.5)
    assert (found["worse"].only_first, found["worse"].p_value) == (2, 0.5)
    assert compare_with_first({"base": GREEDY}) == {}


def test_the_table_shows_every_model_and_the_comparison():
    summaries = {"base": summarise_model(GREEDY, SAMPLED, 4), "new": summarise_model(GREEDY, SAMPLED, 4)}
    text = markdown("title", summaries, compare_with_first({"base": GREEDY, "new": GREEDY}))
    lines = text.splitlines()
    assert lines[0] == "title"
    assert "accuracy (4)" in lines[2] and "pass@1 (2)" in lines[2] and "pass@4" in lines[2] and "pass@2" not in lines[2]
    assert lines[4].startswith("| base") and "50.0% [15.0, 85.0]" in lines[4]
    assert len({line.count("|") for line in lines[2:6]}) == 1
    assert "against base" in text and "+0.0" in lines[-1]
