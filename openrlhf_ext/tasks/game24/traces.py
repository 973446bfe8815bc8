"""Search traces of the game: a randomised depth-first search, pruned to a number of nodes, written as lines.

Format v3 of the case `5 13 7 9` (a card that is no longer an original number carries its expression):

    (13) - (7) = 6, left: (13 - 7) = 6, 5, 9
    roll back, left: 5 13 7 9
    (9) - (5) = 4, left: (9 - 5) = 4, 13, 7
    ...
    reach 24! expression: ...

v2 keeps only the value of such cards; v1 is v2 without the roll-back lines. The final line is the same in all three.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from openrlhf_ext.tasks.game24.puzzles import Ratio, combine

FORMATS = ("v1", "v2", "v3")
ROLL_BACK = "roll back, left: "
LEFT = ", left: "
INPUT_NODE = 0

Expression = int | tuple["Expression", str, "Expression"]
Card = tuple[Ratio, Expression]
State = tuple[Card, ...]
Move = tuple[Card, str, Card]


@dataclass(frozen=True)
class SearchTree:
    """Every state that one search visited, in order of visit. Node 0 is the input state.

    `moves[n]` is the (left card, operator, right card) that led to node n; `path` holds the nodes of the solution, input first.
    """

    parents: list[int]
    states: list[State]
    moves: list[Move | None]
    path: list[int]
    target: int

    @property
    def node_count(self) -> int:
        """Nodes as the pruning threshold counts them: the visited states, a virtual root and the final line."""
        return len(self.parents) + 2


def search(numbers: Sequence[int], rng: random.Random, target: int = 24) -> SearchTree:
    """Runs a depth-first search in random order over exact fractions until the first solution."""
    return search_from(start_state(numbers), rng, target)


def start_state(numbers: Sequence[int]) -> State:
    return tuple(((number, 1), number) for number in numbers)


def search_from(state: State, rng: random.Random, target: int = 24) -> SearchTree:
    """The same search from any state; node 0 is that state. Raises ValueError where the target is out of reach."""
    tree = SearchTree([-1], [state], [None], [INPUT_NODE], target)
    if not _descend(tree, INPUT_NODE, rng):
        cards = [number_text(value) for value, _ in state]
        raise ValueError(f"{', '.join(cards)} cannot make {target}: give a puzzle that has a solution")
    return tree


def _descend(tree: SearchTree, node: int, rng: random.Random) -> bool:
    state = tree.states[node]
    if len(state) == 1:
        return state[0][0] == (tree.target, 1)
    pairs = list(combinations(range(len(state)), 2))
    rng.shuffle(pairs)
    for i, j in pairs:
        first, second = state[i], state[j]
        rest = tuple(card for k, card in enumerate(state) if k != i and k != j)
        candidates = combine(first[0], second[0])
        rng.shuffle(candidates)
        for operator, swapped, value in candidates:
            x, y = (second, first) if swapped else (first, second)
            child = len(tree.parents)
            tree.parents.append(node)
            tree.states.append(((value, (x[1], operator, y[1])), *rest))
            tree.moves.append((x, operator, y))
            tree.path.append(child)
            if _descend(tree, child, rng):
                return True
            tree.path.pop()
    return False


def prune(tree: SearchTree, nodes: int, rng: random.Random) -> list[int]:
    """The nodes that stay, ascending: random leaves off the solution path are deleted until `nodes` are left.

    With 4 numbers the solution alone has 6 nodes, so K >= 6 nodes make 4 + 2(K - 6) output lines unless the search was shorter.
    """
    on_path = set(tree.path)
    children = [0] * len(tree.parents)
    for parent in tree.parents[1:]:
        children[parent] += 1
    leaves = [node for node, count in enumerate(children) if count == 0 and node not in on_path]
    alive = [True] * len(tree.parents)
    excess = tree.node_count - nodes
    while excess > 0 and leaves:
        pick = int(rng.random() * len(leaves))
        node = leaves[pick]
        leaves[pick] = leaves[-1]
        leaves.pop()
        alive[node] = False
        excess -= 1
        parent = tree.parents[node]
        children[parent] -= 1
        if children[parent] == 0 and parent not in on_path:
            leaves.append(parent)
    return [node for node, stays in enumerate(alive) if stays]


def render(tree: SearchTree, kept: Sequence[int]) -> str:
    """The kept nodes as lines in format v3, without a trailing newline."""
    children: dict[int, list[int]] = {node: [] for node in kept}
    for node in kept[1:]:
        children[tree.parents[node]].append(node)
    on_path = set(tree.path)
    lines: list[str] = []

    def visit(node: int) -> None:
        for child in children[node]:
            lines.append(_step_text(tree, child))
            visit(child)
            if child not in on_path:
                lines.append(roll_back_text(tree.states[node]))

    visit(INPUT_NODE)
    solution = tree.states[tree.path[-1]][0][1]
    lines.append(f"reach {tree.target}! expression: {expression_text(solution)}")
    return "\n".join(lines)


def _step_text(tree: SearchTree, node: int) -> str:
    move = tree.moves[node]
    if move is None:
        raise ValueError(f"node {node} is the input: no step leads to it")
    x, operator, y = move
    value = tree.states[node][0][0]
    step = f"({number_text(x[0])}) {operator} ({number_text(y[0])}) = {number_text(value)}"
    return step + LEFT + state_text(tree.states[node])


def input_text(tree: SearchTree) -> str:
    return _numbers_text(tree.states[INPUT_NODE])


def roll_back_text(state: State) -> str:
    """The line that goes back to a state. Untouched numbers, the state of the input, are parted by blanks."""
    untouched = all(isinstance(expression, int) for _, expression in state)
    return ROLL_BACK + (_numbers_text(state) if untouched else state_text(state))


def _numbers_text(state: State) -> str:
    return " ".join(number_text(value) for value, _ in state)


def number_text(value: Ratio) -> str:
    return str(value[0]) if value[1] == 1 else f"{value[0]}/{value[1]}"


def expression_text(expression: Expression) -> str:
    if isinstance(expression, int):
        return str(expression)
    x, operator, y = expression
    return f"({expression_text(x)} {operator} {expression_text(y)})"


def state_text(state: State) -> str:
    return ", ".join(
        str(expression) if isinstance(expression, int) else f"{expression_text(expression)} = {number_text(value)}"
        for value, expression in state
    )


def rewrite(trace: str, form: str) -> str:
    """A v3 trace in another format."""
    if form not in FORMATS:
        raise ValueError(f"format {form!r}: choose one of {', '.join(FORMATS)}")
    lines = trace.split("\n")
    if form in ("v1", "v2"):
        lines = [_values_only(line) for line in lines]
    if form == "v1":
        lines = [line for line in lines if not line.startswith(ROLL_BACK)]
    return "\n".join(lines)


def _values_only(line: str) -> str:
    head, mark, cards = line.partition("left: ")
    return head + mark + ", ".join(card.rpartition(" = ")[2] for card in cards.split(", "))
