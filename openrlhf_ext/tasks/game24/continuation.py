"""Going on from inside a trace: the states that right lines lead to, and what the search would write from there.

Out of a state from which the target cannot be made the continuation rolls back, parent by parent, to one from which it can; there it searches
depth-first and is pruned like any other trace.
"""

import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations

from openrlhf_ext.tasks.game24.lines import RollBack, Step, read_line
from openrlhf_ext.tasks.game24.puzzles import Ratio
from openrlhf_ext.tasks.game24.reach import can_reach
from openrlhf_ext.tasks.game24.traces import (
    LEFT,
    State,
    prune,
    render,
    rewrite,
    roll_back_text,
    search_from,
    start_state,
    state_text,
)

Stack = list[State]
"""The states that the current one descends from, the input first, the current one last."""

VIRTUAL_NODES = 2
"""Nodes that the pruning threshold counts beside the visited states: a root and the final line."""


def replay(numbers: Sequence[int], lines: Sequence[str]) -> Stack:
    """Where right lines lead. Raises ValueError for a line that is not right: the strict checker says which are.

    A step may also start from an ancestor, as in format v1; the youngest that holds both numbers is taken.
    """
    stack = [start_state(numbers)]
    for text in lines:
        line = read_line(text)
        if isinstance(line, RollBack):
            values = [_values(state) for state in stack[:-1]]
            if line.left.values not in values:
                raise ValueError(f"{text!r} rolls back to no earlier state")
            del stack[values.index(line.left.values) + 1 :]
        elif isinstance(line, Step):
            _step(stack, line, text.partition(LEFT)[2])
        else:
            raise ValueError(f"{text!r} is neither a step nor a roll-back")
    return stack


def continuation(stack: Stack, rng: random.Random, *, target: int, lines: int, form: str = "v3") -> str:
    """A right ending of about `lines` lines (fewer or more where the way there asks for it), the final line included.

    Raises ValueError where not even the input state can make the target.
    """
    left = list(stack)
    back: list[str] = []
    while not can_reach(_values(left[-1]), (Fraction(target),)):
        left.pop()
        if not left:
            raise ValueError(f"{state_text(stack[0])} cannot make {target}")
        back.append(roll_back_text(left[-1]))
    tree = search_from(left[-1], rng, target)
    shortest = len(back) + len(tree.path)  # a line per step of the path, and the final line
    extra = max(0, (lines - shortest) // 2)  # a kept node off the path adds a step and a roll-back
    ending = render(tree, prune(tree, len(tree.path) + VIRTUAL_NODES + extra, rng))
    return rewrite("\n".join([*back, ending]), form)


def format_of(lines: Sequence[str]) -> str | None:
    """The format that a trace shows: v3 where a card carries its expression, v2 where it rolls back; None where it could be v1 or v2."""
    cards = [line.partition("left: ")[2] for line in lines if "left: " in line]
    if any("=" in card for card in cards):
        return "v3"
    return "v2" if any(line.startswith("roll back") for line in lines) else None


def _step(stack: Stack, step: Step, printed: str) -> None:
    for depth in range(len(stack), 0, -1):
        found = _after(stack[depth - 1], step, printed)
        if found is not None and _values(found) == step.left.values:
            del stack[depth:]
            stack.append(found)
            return
    raise ValueError(f"no state holds both {step.x.value} and {step.y.value}, or another one is printed: {printed!r}")


def _after(state: State, step: Step, printed: str) -> State | None:
    """The state after the step, its cards in the generator's order. Equal numbers with different expressions are told apart by the print."""
    states = []
    for i, j in permutations(range(len(state)), 2):
        (x, x_expression), (y, y_expression) = state[i], state[j]
        if (Fraction(*x), Fraction(*y)) == (step.x.value, step.y.value):
            rest = tuple(card for at, card in enumerate(state) if at not in (i, j))
            new = (_ratio(step.z.value), (x_expression, step.operator, y_expression))
            states.append((new, *rest))
    cards = sorted(printed.split(", "))
    return next((found for found in states if sorted(state_text(found).split(", ")) == cards), next(iter(states), None))


def _values(state: State) -> tuple[Fraction, ...]:
    return tuple(sorted(Fraction(*value) for value, _ in state))


def _ratio(value: Fraction) -> Ratio:
    return value.numerator, value.denominator
