"""Makes preference pairs {"prompt", "chosen", "rejected", "meta"}, as DPO and its relatives train on them.

outcome: a right and a wrong solution of the same problem, from graded samples. step: from explore's output, the pit against a continuation
that reaches the answer; with --task game24, from graded traces: the first wrong line against what the search does from there.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from openrlhf_ext.prepare.arguments import at_least
from openrlhf_ext.tasks import TASKS
from openrlhf_ext.tasks.rows import write_jsonl

HELP = "preference pairs: outcome, step, label, rationale"
EXAMPLE = "--kind outcome --in runs/collect/train.jsonl --per-problem 8 --out data/pairs.jsonl"
FORMATS = ("rows", "trl")

KINDS: dict[str, str] = {
    "outcome": "openrlhf_ext.prepare.pairs_outcome",
    "step": "openrlhf_ext.prepare.pairs_step",
    "label": "openrlhf_ext.prepare.pairs_label",
    "rationale": "openrlhf_ext.prepare.pairs_rationale",
}
"""Kind -> module with `add_arguments(parser)`, which names its own options, and `build(args) -> Built`."""


@dataclass
class Built:
    """Pairs ready to write, and what the user should know: what was left out and why, counted."""

    rows: Sequence[Mapping[str, object]]
    notes: list[str] = field(default_factory=list)


def left_out(counts: Mapping[str, int]) -> list[str]:
    """A note per reason for which something gave no pair."""
    return [f"left out: {count} {what}" for what, count in sorted(counts.items())]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", choices=tuple(KINDS), required=True)
    parser.add_argument("--in", dest="source", type=Path, required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".jsonl, or .parquet with --format trl")
    parser.add_argument("--per-problem", type=at_least(1), metavar="N", help="most pairs per problem")
    parser.add_argument("--task", choices=tuple(TASKS), help="the task of rows that do not name theirs")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument(
        "--format", choices=FORMATS, default="rows", help="trl: parquet with the columns prompt, chosen, rejected"
    )
    for kind, module in KINDS.items():
        import_module(module).add_arguments(parser.add_argument_group(f"--kind {kind}"))


def run(args: argparse.Namespace) -> None:
    suffix = ".parquet" if args.format == "trl" else ".jsonl"
    if args.out.suffix != suffix:
        raise ValueError(f"--out {args.out}: --format {args.format} writes {suffix} files")
    built: Built = import_module(KINDS[args.kind]).build(args)
    if not built.rows:
        raise ValueError("\n".join([f"{args.source}: not one pair of kind {args.kind}", *built.notes]))
    count = write_trl(args.out, built.rows) if args.format == "trl" else write_jsonl(args.out, built.rows)
    print(f"{args.out}: {count} pairs")
    for note in built.notes:
        print(f"  {note}")


def write_trl(path: Path, pairs: Sequence[Mapping[str, object]]) -> int:
    """Text columns prompt, chosen, rejected, as TRL's preference trainers read them; the file appears whole or not at all."""
    import pyarrow
    import pyarrow.parquet

    columns = {name: [str(pair[name]) for pair in pairs] for name in ("prompt", "chosen", "rejected")}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    try:
        pyarrow.parquet.write_table(pyarrow.table(columns), partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return len(pairs)
