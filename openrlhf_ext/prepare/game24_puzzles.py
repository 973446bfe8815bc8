"""Makes train.jsonl and test.jsonl with the solvable puzzles; the splits share no multiset, digits are shuffled by the seed."""

import argparse
import json
from pathlib import Path

from openrlhf_ext.prepare.arguments import at_least
from openrlhf_ext.tasks.game24.puzzles import solvable_puzzles, split_puzzles
from openrlhf_ext.tasks.rows import write_jsonl

HELP = "the solvable puzzles of the 24-point game"
EXAMPLE = "--out data/game24"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--numbers", type=int, choices=(2, 3, 4, 5), default=4, help="numbers per puzzle (default 4)")
    parser.add_argument("--max-number", type=at_least(1), default=13, help="largest number (default 13)")
    parser.add_argument("--target", type=at_least(0), default=24, help="value to reach (default 24)")
    parser.add_argument("--seed", type=int, default=42)


def run(args: argparse.Namespace) -> None:
    counts = build_puzzles(args.out, args.numbers, args.max_number, args.target, args.seed)
    for name, count in counts.items():
        print(f"{args.out / name}: {count} rows")


def build_puzzles(
    out: Path, numbers: int = 4, max_number: int = 13, target: int = 24, seed: int = 42
) -> dict[str, int]:
    """Writes OUT/train.jsonl and OUT/test.jsonl with rows {"input", "label", "datasource"}; returns rows per file."""
    puzzles = solvable_puzzles(numbers, max_number, target)
    if len(puzzles) < 5:
        raise ValueError(
            f"only {len(puzzles)} solvable puzzles with {numbers} numbers up to {max_number} and target {target}: "
            "raise --max-number or --numbers"
        )
    written = {}
    for split, cases in zip(("train", "test"), split_puzzles(puzzles, seed), strict=True):
        rows = (
            {
                "input": " ".join(map(str, case)) + "\n",
                "label": json.dumps({"numbers": case, "target": target}),
                "datasource": "game24",
            }
            for case in cases
        )
        name = f"{split}.jsonl"
        written[name] = write_jsonl(Path(out) / name, rows)
    return written
