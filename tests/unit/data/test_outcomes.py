"""Choices by outcome: quotas, pairs and partners, independent of the order of problems."""

from collections import Counter

import pytest

from openrlhf_ext.data.outcomes import balanced, by_problem, mismatched, outcome_pairs
from openrlhf_ext.data.trajectory import Trajectory


def sample(problem: str, number: int, reward: float, text: str | None = None) -> Trajectory:
    return {
        "prompt": f"prompt {problem}",
        "label": "{}",
        "observation_tokens": [1, 2],
        "action_ranges": [(1, 2)],
        "rollout_log_probs": None,
        "reward": reward,
        "scores": None,
        "truncated": False,
        "extra_logs": {},
        "problem_id": problem,
        "sample": number,
        "text": f"{problem}{number}" if text is None else text,
    }


def problem(name: str, good: int, bad: int) -> list[Trajectory]:
    return [sample(name, i, float(i < good)) for i in range(good + bad)]


@pytest.mark.parametrize(
    ("good", "bad", "want"), [(9, 9, (4, 4)), (9, 2, (2, 2)), (9, 0, (1, 0)), (0, 9, (0, 4)), (1, 3, (1, 3))]
)
def test_quotas(good: int, bad: int, want: tuple[int, int]) -> None:
    kept = balanced(problem("a", good, bad))
    counts = Counter(row["reward"] for row in kept)
    assert (counts[1.0], counts[0.0]) == want
    assert [row["sample"] for row in kept] == sorted(row["sample"] for row in kept)


def test_choices_do_not_depend_on_other_problems_or_their_order() -> None:
    a, b = problem("a", 7, 7), problem("b", 7, 7)
    apart = [row["text"] for row in balanced(b)]
    assert [row["text"] for row in balanced([*a, *b])][8:] == apart
    mixed = [row for pair in zip(a, b, strict=True) for row in pair]
    assert Counter(r["text"] for r in balanced(mixed)) == Counter(r["text"] for r in balanced([*a, *b]))
    assert [p for p in outcome_pairs(mixed, per_problem=3) if p["meta"]["problem_id"] == "b"] == outcome_pairs(
        b, per_problem=3
    )
    assert [r["text"] for r in balanced(a, seed=1)] != [r["text"] for r in balanced(a, seed=2)]


def test_pairs_are_different_and_of_one_problem() -> None:
    pairs = outcome_pairs([*problem("a", 2, 3), *problem("b", 4, 0)], per_problem=100)
    assert {(p["chosen"], p["rejected"]) for p in pairs} == {(f"a{i}", f"a{j}") for i in (0, 1) for j in (2, 3, 4)}
    assert len(pairs) == 6 and {p["prompt"] for p in pairs} == {"prompt a"}
    assert len(outcome_pairs(problem("a", 5, 5), per_problem=4)) == 4


def test_equal_texts_make_one_pair_and_never_oppose_themselves() -> None:
    rows = [sample("a", 0, 1, "x"), sample("a", 1, 1, "x"), sample("a", 2, 0, "y"), sample("a", 3, 0, "x")]
    assert [(p["chosen"], p["rejected"]) for p in outcome_pairs(rows, per_problem=9)] == [("x", "y")]


def test_problems_without_an_id_are_told_apart_by_their_prompt() -> None:
    rows = problem("a", 1, 1) + problem("b", 1, 1)
    for row in rows:
        del row["problem_id"]
    assert {key: len(group) for key, group in by_problem(rows).items()} == {"prompt a": 2, "prompt b": 2}


def test_partners_are_of_another_problem_even_where_siblings_are_neighbours() -> None:
    assert mismatched(["a", "a", "b", "b"]) == [2, 2, 0, 0]
    assert mismatched(["a", "b", "c"]) == [1, 2, 0]
    assert mismatched(["a", "a"]) == [None, None] and mismatched([]) == []


def test_bad_requests_are_named() -> None:
    with pytest.raises(ValueError, match="per_problem must be at least 1"):
        outcome_pairs([], per_problem=0)
    textless = sample("a", 0, 1.0)
    del textless["text"]
    with pytest.raises(ValueError, match="problem 'a' has no text"):
        outcome_pairs([textless], per_problem=1)
