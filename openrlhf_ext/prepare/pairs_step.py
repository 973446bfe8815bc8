"""`prepare pairs --kind step`: explore's output -> the pit and a continuation that reaches the answer.

Graded traces of the 24-point game need no exploring: the strict checker finds their first wrong line, the search goes on from there.
"""

import argparse
from pathlib import Path

from openrlhf_ext.data.explore_file import read_explored
from openrlhf_ext.data.made_pairs import Pairs
from openrlhf_ext.data.samples import objects, read_samples
from openrlhf_ext.data.step_pairs import REJECTED, StepRule, make_step_pairs
from openrlhf_ext.data.trace_pairs import UNFINISHED, TraceRule, make_trace_pairs
from openrlhf_ext.prepare.arguments import at_least
from openrlhf_ext.prepare.pairs import Built, left_out
from openrlhf_ext.tasks.game24.traces import FORMATS


def add_arguments(parser: "argparse._ArgumentGroup") -> None:
    parser.add_argument(
        "--rejected", choices=REJECTED, default="pit", help="the first wrong step alone (default), or all from it on"
    )
    parser.add_argument(
        "--max-lines", type=at_least(1), default=24, metavar="N", help="game24: most lines of either side (default 24)"
    )
    parser.add_argument(
        "--unfinished",
        choices=UNFINISHED,
        default="skip",
        help="game24: traces that end nowhere without a wrong line: skip, or blame their last line",
    )
    parser.add_argument(
        "--trace-format", choices=FORMATS, help="game24: format of the chosen lines (default: the trace's)"
    )


def build(args: argparse.Namespace) -> Built:
    """Raises ValueError for a file that explore did not write, unless it holds traces of the 24-point game."""
    if _holds_traces(args.source, args.task):
        if args.rejected != "pit":
            raise ValueError("--rejected: of a trace the first wrong line and all after it are rejected; leave it out")
        samples = read_samples(args.source, "game24")
        rule = TraceRule(args.max_lines, args.unfinished, args.trace_format, args.per_problem, args.seed)
        return _built(make_trace_pairs(samples.items, rule), samples.notes())
    explored = read_explored(args.source)
    return _built(make_step_pairs(explored.walks, StepRule(args.rejected, args.per_problem)), explored.notes())


def _built(pairs: Pairs, notes: list[str]) -> Built:
    return Built(pairs.items, notes + left_out(pairs.left_out))


def _holds_traces(source: Path, task: str | None) -> bool:
    """Whether these are samples of the game, not explore's output about them."""
    if source.suffix == ".parquet":
        return task == "game24"
    first = next((row for _, row in objects(source) if row is not None), {})
    return first.get("kind") != "explore" and "game24" in (task, first.get("task"))
