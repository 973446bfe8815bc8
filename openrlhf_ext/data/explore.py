"""First pits of wrong solutions: what was explored, what comes next, and the figures. Pure; sampling is somebody else's.

Self-Explore, arXiv:2404.10346. From every prefix of a wrong solution (question and steps s_1..s_i) k completions are sampled. The first pit is the
smallest i from which none reaches the answer; nothing is sampled beyond it. A step that states a wrong answer is a pit without sampling:
nothing behind it can change the answer. ``confirm`` asks once more, with K2 further samples, before a step is called the pit: with k samples
a state of success rate p is taken for a pit with probability (1 - p)^k.

A level is one step number: all solutions that are still open at step i are explored together, so that one wave fills all engines.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, cast

FIRST, CONFIRM = 0, 1
"""Rounds of a step."""


@dataclass(frozen=True)
class WrongSolution:
    """A wrong solution and what its problem has for comparison.

    `steps`: joined they are the solution; `answered`: the last of them states the answer; `chosen`: a correct solution, None where there is none.
    """

    id: str
    problem: str | int
    prompt: str
    label: str
    task: str
    steps: tuple[str, ...]
    answered: bool
    chosen: str | None = None

    def prefix(self, steps: int) -> str:
        """The prompt and the first steps; a last line that the model did not end gets its line break."""
        text = self.prompt + "".join(self.steps[:steps])
        return text + "\n" if steps == len(self.steps) and not text.endswith("\n") else text

    def row(self) -> dict[str, object]:
        """As explore's output holds it."""
        return {
            "kind": "solution",
            "id": self.id,
            "problem_id": self.problem,
            "prompt": self.prompt,
            "label": self.label,
            "task": self.task,
            "steps": list(self.steps),
            "answered": self.answered,
            "chosen": self.chosen,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> "WrongSolution":
        """Raises KeyError for a row that is none."""
        problem, chosen = row["problem_id"], row["chosen"]
        return cls(
            id=str(row["id"]),
            problem=problem if isinstance(problem, int) else str(problem),
            prompt=str(row["prompt"]),
            label=str(row["label"]),
            task=str(row["task"]),
            steps=tuple(str(step) for step in cast(list[object], row["steps"])),
            answered=bool(row["answered"]),
            chosen=None if chosen is None else str(chosen),
        )


class Completion(TypedDict):
    """One sampled continuation of a prefix, up to its first answer; `tokens` counts all that were generated."""

    text: str
    correct: bool
    tokens: int


class StepRow(TypedDict):
    """All completions of one prefix in one round: step i means that steps 1..i were given."""

    kind: str
    id: str
    step: int
    round: int
    completions: list[Completion]


@dataclass(frozen=True)
class Budget:
    """`k` completions per prefix, `confirm` more before a pit is believed (0 = none), at most `steps_cap` steps of a solution."""

    k: int = 4
    confirm: int = 0
    steps_cap: int = 20


@dataclass(frozen=True)
class Due:
    """One prefix that is to be sampled `count` times; the samples are numbered from `first`."""

    solution: WrongSolution
    step: int
    round: int
    first: int
    count: int


@dataclass
class Walk:
    """One solution on its way. `pit`: the step, once found. `end`: "pit", "none" (every step can be saved) or "cap"."""

    solution: WrongSolution
    budget: Budget
    step: int = 1
    round: int = FIRST
    end: str = ""
    pit: int | None = None
    completions: dict[int, list[Completion]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._arrive()

    def due(self) -> Due | None:
        """What has to be sampled next; None at the end."""
        if self.end:
            return None
        first, count = (0, self.budget.k) if self.round == FIRST else (self.budget.k, self.budget.confirm)
        return Due(self.solution, self.step, self.round, first, count)

    def observe(self, completions: Sequence[Completion]) -> None:
        """Take the completions that were due; they decide by their stored verdicts alone."""
        self.completions.setdefault(self.step, []).extend(completions)
        if any(completion["correct"] for completion in completions):
            self.step, self.round = self.step + 1, FIRST
            self._arrive()
        elif self.round == FIRST and self.budget.confirm:
            self.round = CONFIRM
        else:
            self._stop_at_pit()

    def _arrive(self) -> None:
        last = len(self.solution.steps)
        if self.step > last:
            self.end = "none"
        elif self.step > self.budget.steps_cap:
            self.end = "cap"
        elif self.step == last and self.solution.answered:
            self._stop_at_pit()

    def _stop_at_pit(self) -> None:
        self.pit, self.end = self.step, "pit"


class Exploration:
    """All walks, level by level. What is due comes in a fixed order, so the rows of any two runs are in the same order."""

    def __init__(self, solutions: Iterable[WrongSolution], budget: Budget) -> None:
        self.walks = [Walk(solution, budget) for solution in solutions]
        self.budget = budget
        self._queue: deque[Walk] = deque()

    def pending(self) -> list[Due]:
        """The rest of the current level and round; empty when everything is explored."""
        self._refill()
        return [due for walk in self._queue if (due := walk.due()) is not None]

    def observe(self, row: StepRow) -> None:
        """Take the row of the first pending prefix. Raises ValueError where another one belongs there."""
        self._refill()
        due = self._queue[0].due() if self._queue else None
        found = (row["id"], row["step"], row["round"], len(row["completions"]))
        wanted = (due.solution.id, due.step, due.round, due.count) if due else None
        if found != wanted:
            raise ValueError(
                f"row (id, step, round, completions) {found} where {wanted or 'nothing'} belongs: was it explored otherwise?"
            )
        self._queue.popleft().observe(row["completions"])

    def _refill(self) -> None:
        if not self._queue:
            live = [walk for walk in self.walks if not walk.end]
            level = min(((walk.step, walk.round) for walk in live), default=None)
            self._queue.extend(walk for walk in live if (walk.step, walk.round) == level)

    @property
    def ended(self) -> int:
        return sum(bool(walk.end) for walk in self.walks)


def step_row(due: Due, completions: Sequence[Completion]) -> StepRow:
    return {
        "kind": "step",
        "id": due.solution.id,
        "step": due.step,
        "round": due.round,
        "completions": list(completions),
    }


def walks_of(rows: Iterable[Mapping[str, object]], budget: Budget) -> list[Walk]:
    """The walks that the rows of explore's output tell. Raises ValueError for rows that do not belong together."""
    solutions: list[WrongSolution] = []
    steps: list[StepRow] = []
    for row in rows:
        if row.get("kind") == "solution":
            solutions.append(WrongSolution.from_row(row))
        elif row.get("kind") == "step":
            steps.append(cast(StepRow, row))
    walks = {solution.id: Walk(solution, budget) for solution in solutions}
    for step in steps:
        walk = walks.get(step["id"])
        due = walk.due() if walk else None
        if walk is None or due is None or (due.step, due.round) != (step["step"], step["round"]):
            raise ValueError(f"step {step['step']} of solution {step['id']!r} does not follow from the rows before it")
        walk.observe(step["completions"])
    return list(walks.values())


def figures(walks: Sequence[Walk]) -> dict[str, object]:
    """What exploring found and cost: pit histogram, pass rate per step, completions, tokens, share of the work without early stop."""
    passed: dict[int, list[int]] = {}
    for walk in walks:
        for step, completions in walk.completions.items():
            counts = passed.setdefault(step, [0, 0])
            counts[0] += sum(completion["correct"] for completion in completions)
            counts[1] += len(completions)
    sampled = sum(total for _, total in passed.values())
    everything = sum(walk.budget.k * min(len(walk.solution.steps), walk.budget.steps_cap) for walk in walks)
    ends = Counter(walk.end or "unexplored" for walk in walks)
    pits = Counter(walk.pit for walk in walks if walk.pit is not None)
    return {
        "solutions": len(walks),
        "pits": ends["pit"],
        "no_pit": ends["none"],
        "capped": ends["cap"],
        "unexplored": ends["unexplored"],
        "answer_line_pits": sum(walk.pit == len(walk.solution.steps) and walk.solution.answered for walk in walks),
        "one_step": sum(len(walk.solution.steps) == 1 for walk in walks),
        "pit_histogram": {str(step): pits[step] for step in sorted(pits)},
        "pass_rate": {str(step): passed[step][0] / passed[step][1] for step in sorted(passed)},
        "completions": sampled,
        "completions_without_stop": everything,
        "share": sampled / everything if everything else 0.0,
        "tokens": sum(c["tokens"] for walk in walks for cs in walk.completions.values() for c in cs),
    }
