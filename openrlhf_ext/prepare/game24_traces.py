"""Makes sft.jsonl with search traces {"input", "output", "nodes"} of the puzzles.

Every puzzle is searched several times in random order; each search is pruned to every number of nodes in the range. With
--tokenizer, short.jsonl, medium.jsonl and long.jsonl hold the rows of one length bucket (tokens of input + output).
traces.json says how the rows were made, their format first: a row itself does not tell v2 from v3 to a person.
"""

import argparse
import json
import os
import random
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from openrlhf_ext.data.long_cot import (
    TraceRecord,
    case_records,
    hold_out_puzzles,
    hold_out_rows,
    without_duplicates,
)
from openrlhf_ext.prepare.arguments import at_least, integer_range
from openrlhf_ext.prepare.tokenizers import open_tokenizer
from openrlhf_ext.tasks.base import LabelError
from openrlhf_ext.tasks.game24.puzzles import is_solvable
from openrlhf_ext.tasks.game24.task import read_case
from openrlhf_ext.tasks.game24.traces import FORMATS, rewrite
from openrlhf_ext.tasks.rows import Row, read_rows, write_jsonl

HELP = "search traces of the 24-point game for supervised training"
EXAMPLE = "--puzzles data/game24/train.jsonl --out data/game24 --nodes 6-11 --format v2"

BUCKETS = {"short": (0, 300), "medium": (300, 550), "long": (550, 1100)}
VALIDATION_SHARE = 0.01
RECIPE = "traces.json"
CASES_PER_BATCH = 16

Case = tuple[int, list[int], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--puzzles", type=Path, required=True, metavar="FILE", help="train.jsonl of game24-puzzles")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--searches", type=at_least(1), default=3, help="searches per puzzle (default 3)")
    parser.add_argument("--nodes", type=integer_range, default=(6, 17), metavar="LOW-HIGH", help="default 6-17")
    parser.add_argument("--format", choices=FORMATS, default="v3", help="default v3")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--tokenizer", metavar="M", help="also write length buckets, measured with this tokenizer")
    parser.add_argument("--buckets", type=bucket_bounds, default=BUCKETS, metavar="A,B,C", help="default 300,550,1100")
    parser.add_argument(
        "--validation",
        nargs="?",
        const="puzzles",
        choices=("puzzles", "rows"),
        help="move 1%% to validation.jsonl: of the puzzles, with all their rows (default), or of the rows, whose puzzles stay in training",
    )
    parser.add_argument(
        "--workers", type=at_least(1), help="processes (default: one per core); the rows do not depend on it"
    )


def run(args: argparse.Namespace) -> None:
    before = _recorded_format(args.out / RECIPE)
    counts = build_traces(
        args.puzzles,
        args.out,
        searches=args.searches,
        nodes=args.nodes,
        format=args.format,
        seed=args.seed,
        tokenizer=args.tokenizer,
        workers=args.workers,
        validation=args.validation,
        buckets=args.buckets,
    )
    for name, count in counts.items():
        print(f"{args.out / name}: {count} rows in format {args.format}")
    if before not in ("", args.format):
        print(f"{args.out} held traces in format {before}: they were replaced")


def bucket_bounds(text: str) -> dict[str, tuple[int, int]]:
    """`300,550,1100`: short is [0, 300), medium [300, 550), long [550, 1100)."""
    bounds = [int(part) for part in text.split(",") if part.strip().isdecimal()]
    if len(bounds) != 3 or bounds != sorted(set(bounds)):
        raise argparse.ArgumentTypeError(f"{text!r}: give three ascending token counts such as 300,550,1100")
    return dict(zip(BUCKETS, zip([0, *bounds[:2]], bounds, strict=True), strict=True))


def build_traces(
    puzzles: Path,
    out: Path,
    searches: int = 3,
    nodes: tuple[int, int] = (6, 17),
    format: str = "v3",
    seed: int = 42,
    tokenizer: str | None = None,
    workers: int | None = None,
    progress: bool = True,
    validation: str | None = None,
    buckets: dict[str, tuple[int, int]] | None = None,
) -> dict[str, int]:
    """Writes OUT/sft.jsonl with rows {"input", "output", "nodes"}, shuffled; returns the number of rows per file.

    `nodes` is an inclusive range of pruning thresholds. `tokenizer` (a name or a directory) adds one file per length bucket of
    tokens of input + output. `validation` moves 1% to OUT/validation.jsonl: "puzzles" = all rows of 1% of the puzzles, "rows" = 1% of
    the rows. Nothing depends on `workers`. OUT/traces.json records the request. Raises ValueError for one that cannot be met.
    """
    cases = _read_cases(Path(puzzles))
    if format not in FORMATS:
        raise ValueError(f"format {format!r}: choose one of {', '.join(FORMATS)}")
    _check_ranges(searches, nodes, len(cases[0][1]))
    thresholds = tuple(range(nodes[0], nodes[1] + 1))
    records = list(without_duplicates(_all_records(cases, searches, thresholds, seed, workers, progress)))
    # Duplicates are dropped before the rewrite, so that the three formats hold the same searches.
    for record in records:
        record["output"] = rewrite(record["output"], format)
    random.Random(seed).shuffle(records)
    parts = {"sft": records}
    if validation:
        by_rows = validation == "rows"
        train, held_out = (
            hold_out_rows(records, VALIDATION_SHARE) if by_rows else hold_out_puzzles(records, VALIDATION_SHARE, seed)
        )
        parts = {"sft": train, "validation": held_out}
    if tokenizer is not None:
        parts |= _length_buckets(parts["sft"], tokenizer, buckets or BUCKETS)
    counts = {f"{name}.jsonl": write_jsonl(Path(out) / f"{name}.jsonl", rows) for name, rows in parts.items()}
    recipe = {"format": format, "searches": searches, "nodes": list(nodes), "seed": seed, "validation": validation}
    (Path(out) / RECIPE).write_text(json.dumps(recipe | {"rows": counts}) + "\n", encoding="utf-8")
    return counts


def _recorded_format(recipe: Path) -> str:
    """The format of the traces that lie there already; empty where nothing says it."""
    try:
        held = json.loads(recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(held.get("format", "")) if isinstance(held, dict) else ""


def _check_ranges(searches: int, nodes: tuple[int, int], cards: int) -> None:
    if searches < 1:
        raise ValueError(f"searches={searches}: give at least 1")
    if nodes[0] > nodes[1] or nodes[0] < cards + 2:
        raise ValueError(
            f"nodes={nodes[0]}-{nodes[1]}: the bare solution of {cards} numbers has {cards + 2} nodes; "
            f"give a range LOW-HIGH with LOW at least {cards + 2}"
        )


def _read_cases(path: Path) -> list[Case]:
    def check(row: Row) -> list[str]:
        try:
            numbers, target = _case(row)
        except LabelError as error:
            return [f"label: {error}"]
        solvable = is_solvable(numbers, target)
        return [] if solvable else [f"label: {list(numbers)} cannot make {target}, so it has no solution to trace"]

    cases = map(_case, read_rows(path, check))
    return [(index, list(numbers), target) for index, (numbers, target) in enumerate(cases)]


def _case(row: Row) -> tuple[Sequence[int], int]:
    label = row.get("label")
    if not isinstance(label, (str, dict)):
        raise LabelError(
            f'missing; expected {{"numbers": [..], "target": n}} as prepare game24-puzzles writes, found {label!r}'
        )
    return read_case(label)


def _case_batch(batch: list[Case], searches: int, nodes: tuple[int, ...], seed: int) -> list[TraceRecord]:
    return [
        record
        for index, numbers, target in batch
        for record in case_records(numbers, index, target=target, searches=searches, nodes=nodes, seed=seed)
    ]


def _all_records(
    cases: Sequence[Case], searches: int, nodes: tuple[int, ...], seed: int, workers: int | None, progress: bool
) -> Iterator[TraceRecord]:
    batches = [list(cases[at : at + CASES_PER_BATCH]) for at in range(0, len(cases), CASES_PER_BATCH)]
    work = partial(_case_batch, searches=searches, nodes=nodes, seed=seed)
    workers = min(workers or len(os.sched_getaffinity(0)), len(batches))
    show = progress and sys.stderr.isatty()
    if workers == 1:
        for done, batch in enumerate(map(work, batches), start=1):
            _show(show, done, len(batches))
            yield from batch
        return
    with ProcessPoolExecutor(workers) as pool:
        for done, batch in enumerate(pool.map(work, batches), start=1):
            _show(show, done, len(batches))
            yield from batch


def _show(on: bool, done: int, total: int) -> None:
    if on:
        print(f"\rsearching: {100 * done // total}%", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _length_buckets(
    records: Sequence[TraceRecord], tokenizer: str, buckets: dict[str, tuple[int, int]]
) -> dict[str, list[TraceRecord]]:
    encode = open_tokenizer(tokenizer)
    texts = [record["input"] + record["output"] for record in records]
    lengths = [len(ids) for ids in encode(texts, add_special_tokens=False)["input_ids"]]
    return {
        name: [record for record, length in zip(records, lengths, strict=True) if low <= length < high]
        for name, (low, high) in buckets.items()
    }
