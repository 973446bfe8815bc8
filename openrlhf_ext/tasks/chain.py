"""A synthetic chain of arithmetic with known ground truth: a running sum modulo a number, one line per step.

    question  17+58+40 mod 100
    answer    17+58=75
              75+40=15
              #### 15

The answer takes every value below the modulus equally often, so it cannot be guessed. Grading is that of word problems.
"""

import random
from collections.abc import Sequence
from typing import TypedDict

PIECES: tuple[str, ...] = (" mod ", "#### ")
OPERATIONS = "+-"


class ChainExample(TypedDict):
    id: str
    question: str
    answer: str


def chain_example(identity: str, start: int, steps: Sequence[tuple[str, int]], modulus: int) -> ChainExample:
    """The question and its worked answer; `steps` are (operation, operand)."""
    value = start
    lines = []
    for operation, operand in steps:
        result = (value + operand if operation == "+" else value - operand) % modulus
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
