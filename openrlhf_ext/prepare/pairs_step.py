"""`prepare pairs --kind step`: explore's output -> the pit and a continuation that reaches the answer; graded traces with --task game24."""

import argparse

from openrlhf_ext.data.explore_file import read_explored
from openrlhf_ext.data.step_pairs import REJECTED, StepRule, make_step_pairs
from openrlhf_ext.prepare.pairs import Built


def add_arguments(parser: "argparse._ArgumentGroup") -> None:
    parser.add_argument(
        "--rejected", choices=REJECTED, default="pit", help="the first wrong step alone (default), or all from it on"
    )


def build(args: argparse.Namespace) -> Built:
    """Raises ValueError for a file that explore did not write."""
    explored = read_explored(args.source)
    pairs = make_step_pairs(explored.walks, StepRule(args.rejected, args.per_problem))
    counts = [f"left out: {count} {what}" for what, count in sorted(pairs.left_out.items())]
    return Built(pairs.items, explored.notes() + counts)
