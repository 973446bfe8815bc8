"""Makes program answers (`def solution(): ...`) of worked solutions: GSM8K's `<<a*b=c>>` marks, SVAMP's Equation field.

Every program is run in the sandbox and kept only if it gives the answer. Rows {"item_id", "question", "answer_cot": program, "answer_value"},
the R3 project's own form, which prepare reverse-curriculum --task gsm8k-program (or svamp-program) reads.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from openrlhf_ext.data.programs import Step, equation_steps, marked_steps, program_of
from openrlhf_ext.data.prompts import READERS
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.base import Task
from openrlhf_ext.tasks.math_word import rational
from openrlhf_ext.tasks.rows import Row, missing_text, read_rows, write_jsonl

HELP = "program answers from worked solutions, each run and checked"
EXAMPLE = "--task gsm8k --in gsm8k/train.jsonl --out data/gsm8k-program/train.jsonl"
STEPS: Mapping[str, tuple[str, Callable[[str], list[Step]]]] = {
    "gsm8k": ("answer", marked_steps),
    "svamp": ("Equation", equation_steps),
}
"""Task -> the field that the calculations are in, and how they are read."""
THREADS = 4
SHOWN = 20


@dataclass(frozen=True)
class Conversion:
    """The rows made, and for each reason the items left out."""

    rows: Sequence[Row]
    left_out: Mapping[str, Sequence[str]]

    def lines(self) -> Iterator[str]:
        yield f"{len(self.rows)} programs"
        for reason, items in self.left_out.items():
            more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
            yield f"left out {len(items)}, {reason}: {', '.join(items[:SHOWN])}{more}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=tuple(STEPS), required=True)
    parser.add_argument("--in", dest="source", type=Path, required=True, metavar="FILE", help="read as it was released")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")


def run(args: argparse.Namespace) -> None:
    conversion = build_programs(args.task, args.source, args.out)
    first, *notes = conversion.lines()
    print(f"{args.out}: {first}")
    for note in notes:
        print(f"  {note}")


def build_programs(task: str, source: Path, out: Path) -> Conversion:
    """Writes the rows of all solutions whose program gives their answer. Raises ValueError for bad rows, or where nothing is left."""
    field, read_steps = STEPS[task]
    reader = READERS[task]
    rows = read_rows(Path(source), lambda row: reader.check(row) + missing_text(row, field))
    verifier = make_task({"name": f"{task}-program"})
    made: list[Row] = []
    left_out: dict[str, list[str]] = {}
    with ThreadPoolExecutor(THREADS) as threads:
        converted = threads.map(lambda row: _convert(row, task, read_steps, verifier), rows)
        for number, (row, (program, reason)) in enumerate(zip(rows, converted, strict=True)):
            _show(number + 1, len(rows))
            identity = str(row.get("ID", f"{task}_{number}"))
            if program is None:
                left_out.setdefault(reason, []).append(identity)
                continue
            problem = reader.read(row)
            made.append(
                {
                    "item_id": identity,
                    "question": problem.question,
                    "answer_cot": program,
                    "answer_value": str(problem.label["answer"]),
                }
            )
    if not made:
        counts = Counter({reason: len(items) for reason, items in left_out.items()})
        raise ValueError(f"{source}: no solution became a program ({dict(counts)}): is this the right --task?")
    write_jsonl(Path(out), made)
    return Conversion(made, left_out)


def _convert(row: Row, task: str, read_steps: Callable[[str], list[Step]], verifier: Task) -> tuple[str | None, str]:
    """The program, or None and the reason. Where using results by name goes wrong (a rounded result), numbers are kept as they are."""
    problem = READERS[task].read(row)
    answer = rational(str(problem.label["answer"]))
    if answer is None:
        return None, "the answer is no number"
    try:
        steps = read_steps(str(row[STEPS[task][0]]))
    except ValueError:
        return None, "a calculation is no plain arithmetic"
    if not steps:
        return None, "no calculation is marked"
    for linked in (True, False):
        program = program_of(problem.question, steps, answer, linked=linked)
        if program is None:
            return None, "no calculation comes to the answer"
        if verifier.verify(program, problem.label).correct:
            return program, ""
    return None, "the program does not give the answer"


def _show(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\rrunning: {100 * done // total}%", end="\n" if done == total else "", file=sys.stderr, flush=True)
