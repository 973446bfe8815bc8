"""Makes the synthetic arithmetic chain: train.jsonl and test.jsonl with {"id", "question", "answer"} in GSM8K's form.

With --slips also slips.jsonl: the training rows again, worked wrong in a known way.
"""

import argparse
import random
from pathlib import Path

from openrlhf_ext.prepare.arguments import at_least
from openrlhf_ext.tasks.chain import OPERATIONS, chain_examples, with_slips
from openrlhf_ext.tasks.rows import write_jsonl

HELP = "arithmetic chains with known ground truth"
EXAMPLE = "--out data/chain --steps 6 --max-operand 9"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--steps", type=at_least(1), default=4, help="steps per chain (default 4)")
    parser.add_argument(
        "--modulus", type=at_least(100), default=100, help="results are taken modulo this (default 100)"
    )
    parser.add_argument("--max-operand", type=at_least(1), help="largest number added (default: modulus - 1)")
    parser.add_argument("--operations", choices=("+", "-", OPERATIONS), default="+", help="default +")
    parser.add_argument("--train", type=at_least(1), default=4000, help="training rows (default 4000)")
    parser.add_argument("--test", type=at_least(1), default=500, help="test rows (default 500)")
    parser.add_argument(
        "--slips",
        type=float,
        metavar="Q",
        help="also write slips.jsonl: the training rows with the result 0 with probability Q",
    )
    parser.add_argument(
        "--slips-from",
        type=at_least(1),
        default=1,
        metavar="N",
        help="slips at operands of N or more (default 1: at all)",
    )
    parser.add_argument("--seed", type=int, default=42)


def run(args: argparse.Namespace) -> None:
    if args.slips is not None and not 0 < args.slips <= 1:
        raise ValueError(f"--slips {args.slips:g}: a probability above 0, at most 1")
    counts = build_chain(
        args.out,
        args.steps,
        args.modulus,
        args.train,
        args.test,
        args.seed,
        args.max_operand,
        args.operations,
        args.slips,
        args.slips_from,
    )
    for name, count in counts.items():
        print(f"{args.out / name}: {count} rows")


def build_chain(
    out: Path,
    steps: int = 4,
    modulus: int = 100,
    train: int = 4000,
    test: int = 500,
    seed: int = 42,
    max_operand: int | None = None,
    operations: str = "+",
    slips: float | None = None,
    slips_from: int = 1,
) -> dict[str, int]:
    """Writes OUT/train.jsonl and OUT/test.jsonl, which share no question, and OUT/slips.jsonl where asked; returns rows per file."""
    examples = chain_examples(
        train + test,
        steps=steps,
        modulus=modulus,
        max_operand=max_operand or modulus - 1,
        operations=operations,
        rng=random.Random(seed),
    )
    parts = {"train.jsonl": examples[:train], "test.jsonl": examples[train:]}
    if slips is not None:
        rng = random.Random(seed)  # of its own: the other files are the same with and without slips
        parts["slips.jsonl"] = [with_slips(example, slips, slips_from, rng) for example in examples[:train]]
    return {name: write_jsonl(Path(out) / name, rows) for name, rows in parts.items()}
