"""The strict checker: exact arithmetic, the state stack simulated line by line, nothing evaluated.

A line is right iff its grammar, its arithmetic, the state transition and, for a roll-back, the target state hold:

- step: x and y are cards of the current state, `x op y = z` is exact, and `left:` shows the state with x and y replaced by z
  (in any order). Cards of v3 must equal their values and together use exactly the given numbers.
- roll-back: `left:` shows a state that the current one descends from (its parent or an earlier one, never itself).
- final: it is the last line, the state is the single card `target`, and its expression is exact over the given numbers.

After a wrong line the check goes on from the printed state if legal arithmetic reaches it from the case; a wrong line that
prints no such state makes every later line wrong. A response without any roll-back line whose cards are bare values is read
as format v1: a step may then also start from a state that the current one descends from (an implicit roll-back).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from openrlhf_ext.tasks.game24.lines import Broken, Cards, Final, Line, RollBack, Step, read_line
from openrlhf_ext.tasks.game24.reach import Values, can_reach


@dataclass(frozen=True)
class Check:
    """What a checker found."""

    solved: bool
    has_expression: bool  # the last line is a final line with a readable expression
    finished: bool  # the last line is a final line
    process: float
    lines: int
    wrong: tuple[int, ...]  # 0-based numbers of wrong lines


def check_strict(response: str, numbers: Sequence[int], target: int) -> Check:
    """Checks a response against its case; never raises."""
    texts = response.split("\n")
    while len(texts) > 1 and not texts[-1].strip():
        texts.pop()
    lines = [read_line(text) for text in texts]
    walk = _Walk(numbers, target, implicit_roll_back=_is_v1(lines))
    right = [walk.follow(line, is_last=at == len(lines) - 1) for at, line in enumerate(lines)]
    wrong = tuple(at for at, ok in enumerate(right) if not ok)
    last = lines[-1]
    return Check(
        solved=_solves(last, numbers, target),
        has_expression=isinstance(last, Final) and last.value is not None,
        finished=isinstance(last, Final),
        process=1 - len(wrong) / len(lines),
        lines=len(lines),
        wrong=wrong,
    )


def _is_v1(lines: Sequence[Line]) -> bool:
    cards = [line.left for line in lines if isinstance(line, (Step, Broken))]
    bare = all(card is None or card.integers is None for card in cards)
    return bare and not any(isinstance(line, RollBack) for line in lines)


def _solves(line: Line, numbers: Sequence[int], target: int) -> bool:
    if not isinstance(line, Final) or line.value is None:
        return False
    exact = line.value.value == target == line.target
    return exact and sorted(line.value.integers) == sorted(numbers)


class _Walk:
    """The current state and the states it descends from, oldest first."""

    def __init__(self, numbers: Sequence[int], target: int, implicit_roll_back: bool):
        self.numbers = numbers
        self.target = target
        self.implicit_roll_back = implicit_roll_back
        self.start: Values = tuple(sorted(Fraction(number) for number in numbers))
        self.stack: list[Values] = [self.start]
        self.lost = False

    def follow(self, line: Line, is_last: bool) -> bool:
        """Whether the line is right; moves to the state it leads to."""
        if self.lost:
            return False
        if isinstance(line, Final):
            right = is_last and self.stack[-1] == (self.target,) and _solves(line, self.numbers, self.target)
            self.lost = not right
            return right
        if isinstance(line, Step) and self._good_cards(line.left):
            if self._step(line):
                return True
        elif isinstance(line, RollBack) and self._good_cards(line.left) and line.left.values in self.stack[:-1]:
            del self.stack[self.stack.index(line.left.values) + 1 :]
            return True
        self._go_on_from(line.left)
        return False

    def _good_cards(self, cards: Cards) -> bool:
        uses_case = cards.integers is None or cards.integers == tuple(sorted(self.numbers))
        return cards.well_formed and cards.consistent and uses_case

    def _step(self, step: Step) -> bool:
        numbers = (step.x, step.y, step.z)
        if not all(number.canonical for number in numbers) or step.z.value != _apply(step):
            return False
        depth = len(self.stack) if self.implicit_roll_back else 1
        for back in range(1, depth + 1):
            if _replace(self.stack[-back], step) == step.left.values:
                del self.stack[len(self.stack) - back + 1 :]
                self.stack.append(step.left.values)
                return True
        return False

    def _go_on_from(self, printed: Cards | None) -> None:
        if printed is None or not can_reach(self.start, printed.values):
            self.lost = True
            return
        ancestors = [s for s in self.stack if len(s) > len(printed.values) and can_reach(s, printed.values)]
        self.stack = [*ancestors, printed.values]


def _apply(step: Step) -> Fraction | None:
    x, y = step.x.value, step.y.value
    if step.operator == "/":
        return x / y if y else None
    return {"+": x + y, "-": x - y, "*": x * y}[step.operator]


def _replace(state: Values, step: Step) -> Values | None:
    """The state after the step, or None where it does not hold both operands."""
    cards = list(state)
    for operand in (step.x.value, step.y.value):
        if operand not in cards:
            return None
        cards.remove(operand)
    return tuple(sorted([*cards, step.z.value]))
