"""A synthetic chain of arithmetic with known ground truth: a running sum modulo a number, one line per step.

    question  17+58+40 mod 100
    answer    17+58=75
              75+40=15
              #### 15

The answer takes every value below the modulus equally often, so it cannot be guessed. Grading is that of word problems.
Demonstrations with slips make a model that errs in a known way: that often, at those operands, with the result 0.
"""

import random
import re
from collections.abc import Collection, Sequence
from typing import TypedDict

PIECES: tuple[str, ...] = (" mod ", "#### ")
OPERATIONS = "+-"


class ChainExample(TypedDict):
    id: str
    question: str
    answer: str


def chain_example(
    identity: str, start: int, steps: Sequence[tuple[str, int]], modulus: int, slips: Collection[int] = ()
) -> ChainExample:
    """The question and its worked answer; `steps` are (operation, operand), `slips` the steps (from 0) whose result is given as 0."""
    value = start
    lines = []
    for index, (operation, operand) in enumerate(steps):
        result = 0 if index in slips else (value + operand if operation == "+" else value - operand) % modulus
        lines.append(f"{value}{operation}{operand}={result}")
        value = result
    question = str(start) + "".join(f"{operation}{operand}" for operation, operand in steps) + f" mod {modulus}"
    return {"id": identity, "question": question, "answer": "\n".join([*lines, f"#### {value}"])}


def chain_examples(
    count: int, *, steps: int, modulus: int, max_operand: int, operations: str, rng: random.Random
) -> list[ChainExample]:
    """`count` examples, no question twice. Raises ValueError where fewer than four times as many questions exist."""
    available = modulus * (max_operand * len(operations)) ** steps
    if available < 4 * count:
        raise ValueError(
            f"{available} different chains of {steps} steps exist, {count} asked for: "
            "raise --steps, --modulus or --max-operand"
        )
    examples: dict[str, ChainExample] = {}
    while len(examples) < count:
        moves = [(rng.choice(operations), rng.randint(1, max_operand)) for _ in range(steps)]
        example = chain_example(f"chain-{len(examples)}", rng.randrange(modulus), moves, modulus)
        examples.setdefault(example["question"], example)
    return list(examples.values())


def with_slips(example: ChainExample, share: float, smallest: int, rng: random.Random) -> ChainExample:
    """The example with an answer that gives 0 with probability `share` at every operand of `smallest` or more, and goes on from there.

    One wrong result for all sums: a policy unlearns it as one habit, not sum by sum.
    """
    chain, modulus = example["question"].split(PIECES[0])
    start, *moves = re.findall(r"([+-]?)(\d+)", chain)
    steps = [(operation, int(operand)) for operation, operand in moves]
    slips = {index for index, (_, operand) in enumerate(steps) if operand >= smallest and rng.random() < share}
    return chain_example(example["id"], int(start[1]), steps, int(modulus), slips)
