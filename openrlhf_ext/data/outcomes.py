"""Choices from graded trajectories by outcome alone: balanced subsets, and partners for KTO.

Success = the highest reward of the scale. Every choice is made per problem, from a seed and the problem's own id, so that it depends neither on
the order of other problems nor on how rows are spread over files.
"""

import random
from collections.abc import Iterable, Sequence

from openrlhf_ext.data.offline import problem_of
from openrlhf_ext.data.trajectory import Trajectory


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


def mismatched(problems: Sequence[str | int]) -> list[int | None]:
    """For each row of a batch the index of a row of another problem, whose response KTO pairs with this row's prompt; None if there is none.

    Samples of a problem lie together in most files, so the neighbour, the usual choice, would often be a sibling.
    """
    count = len(problems)
    return [
        next((j % count for j in range(i + 1, i + count) if problems[j % count] != problem), None)
        for i, problem in enumerate(problems)
    ]
