"""``grade``: rewards for given responses, by the code that rewards a rollout. No model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.config.values import coerce_open
from openrlhf_ext.record.text import number

if TYPE_CHECKING:
    from openrlhf_ext.tasks.grade import Spread, Summary

_EXAMPLE = """\
Input rows: {"label": JSON string or object, "response": text}. Output: the same rows with reward, correct, parsed, metrics;
a table of their means is printed.
The task's options are given as --task.key VALUE; --task T is short for --task.name T.

example:
  openrlhf-ext grade --task game24 --task.checker strict --in answers.jsonl --out graded.jsonl"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the ``grade`` command."""
    parser = subparsers.add_parser(
        "grade",
        help="grade given responses, no model needed",
        usage="openrlhf-ext grade --task T [--task.key VALUE ...] --in FILE --out FILE",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--in", dest="source", type=Path, required=True, metavar="FILE", help="rows to grade")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="graded rows")
    return parser


def run(args: argparse.Namespace) -> int:
    """0 = written, 2 = the request was wrong."""
    from openrlhf_ext.tasks.grade import grade_file

    foreign = [key for key, _ in args.settings if not key.startswith("task.")]
    options = {key.removeprefix("task."): coerce_open(value) for key, value in args.settings}
    if foreign:
        print(
            f"--{foreign[0]}: unknown option; grade takes --task T, --task.key VALUE, --in and --out", file=sys.stderr
        )
        return 2
    try:
        summary = grade_file(options, args.source, args.out)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options['name']}: {summary.rows} response{'s' * (summary.rows != 1)} graded, written to {args.out}")
    print(table(summary))
    return 0


def table(summary: Summary) -> str:
    """Means over the responses as aligned text: shares in percent with their counts, numbers with their range."""
    lines = [["", "mean", "over the responses"]]
    for name, count in (("correct", summary.correct), ("parsed", summary.parsed)):
        lines.append([name, f"{count / summary.rows:.1%}", f"{count} of {summary.rows}"])
    lines += [_line(name, spread) for name, spread in {"reward": summary.reward, **summary.metrics}.items()]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c}" for a, b, c in lines)


def _line(name: str, spread: Spread) -> list[str]:
    return [name, number(spread.mean), f"{number(spread.low)} to {number(spread.high)}"]
