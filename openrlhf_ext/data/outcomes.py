"""Choices from graded trajectories by outcome alone: balanced subsets, preference pairs, and partners for KTO.

Success = the highest reward of the scale. Every choice is made per problem, from a seed and the problem's own id, so that it depends neither on
the order of other problems nor on how rows are spread over files.
"""

import random
from collections.abc import Iterable, Sequence
from typing import TypedDict

from openrlhf_ext.data.offline import problem_of
from openrlhf_ext.data.trajectory import Trajectory


class OutcomePair(TypedDict):
    """One preference: texts as DPO reads them; `meta` names where they come from."""

    prompt: str
    chosen: str
    rejected: str
    meta: dict[str, str | int]


def by_problem(trajectories: Iterable[Trajectory]) -> dict[str | int, list[Trajectory]]:
    """Siblings together, problems in the order of their first sample; they need not be neighbours in the file."""
    groups: dict[str | int, list[Trajectory]] = {}
    for trajectory in trajectories:
        groups.setdefault(problem_of(trajectory), []).append(trajectory)
    return groups


def balanced(
    trajectories: Iterable[Trajectory], *, most: int = 4, success: float = 1.0, seed: int = 42
) -> list[Trajectory]:
    """At most `most` successes and `most` failures per problem, and no more successes than failures (one is always allowed).

    The selection of the paper's 7B runs: it keeps failures in the data. Kept rows stay in their order.
    """
    kept: list[Trajectory] = []
    for problem, siblings in by_problem(trajectories).items():
        rng = random.Random(f"balanced {seed} {problem!r}")
        good = [i for i, row in enumerate(siblings) if row["reward"] == success]
        bad = [i for i, row in enumerate(siblings) if row["reward"] != success]
        failures = rng.sample(bad, min(most, len(bad)))
        successes = rng.sample(good, min(most, len(good), max(len(failures), 1)))
        kept += [siblings[i] for i in sorted(failures + successes)]
    return kept


def outcome_pairs(
    trajectories: Iterable[Trajectory], *, per_problem: int, success: float = 1.0, seed: int = 42
) -> list[OutcomePair]:
    """Up to `per_problem` pairs (a success, a failure) of each problem, no pair of texts twice. Rows need their `text`."""
    if per_problem < 1:
        raise ValueError(f"per_problem must be at least 1, got {per_problem}")
    pairs: list[OutcomePair] = []
    for problem, siblings in by_problem(trajectories).items():
        good = _texts(row for row in siblings if row["reward"] == success)
        bad = _texts(row for row in siblings if row["reward"] != success)
        every = [(c, r) for c in good for r in bad if c != r]
        rng = random.Random(f"outcome pairs {seed} {problem!r}")
        for chosen, rejected in rng.sample(every, min(per_problem, len(every))):
            meta: dict[str, str | int] = {"kind": "outcome", "problem_id": problem}
            pairs.append({"prompt": siblings[0]["prompt"], "chosen": chosen, "rejected": rejected, "meta": meta})
    return pairs


def mismatched(problems: Sequence[str | int]) -> list[int | None]:
    """For each row of a batch the index of a row of another problem, whose response KTO pairs with this row's prompt; None if there is none.

    Samples of a problem lie together in most files, so the neighbour, the usual choice, would often be a sibling.
    """
    count = len(problems)
    return [
        next((j % count for j in range(i + 1, i + count) if problems[j % count] != problem), None)
        for i, problem in enumerate(problems)
    ]


def _texts(rows: Iterable[Trajectory]) -> list[str]:
    """Different texts, in order. Raises ValueError for a row without one."""
    found: dict[str, None] = {}
    for row in rows:
        if "text" not in row:
            raise ValueError(f"a trajectory of problem {problem_of(row)!r:.60} has no text: pairs are made of texts")
        found[row["text"]] = None
    return list(found)
