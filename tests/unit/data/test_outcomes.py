"""Choices by outcome: quotas and partners, independent of the order of problems."""

from collections import Counter

import pytest

from openrlhf_ext.data.outcomes import balanced, by_problem, mismatched
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
    assert [r["text"] for r in balanced(a, seed=1)] != [r["text"] for r in balanced(a, seed=2)]


def test_problems_without_an_id_are_told_apart_by_their_prompt() -> None:
    rows = problem("a", 1, 1) + problem("b", 1, 1)
    for row in rows:
        del row["problem_id"]
    assert {key: len(group) for key, group in by_problem(rows).items()} == {"prompt a": 2, "prompt b": 2}


def test_partners_are_of_another_problem_even_where_siblings_are_neighbours() -> None:
    assert mismatched(["a", "a", "b", "b"]) == [2, 2, 0, 0]
    assert mismatched(["a", "b", "c"]) == [1, 2, 0]
    assert mismatched(["a", "a"]) == [None, None] and mismatched([]) == []
