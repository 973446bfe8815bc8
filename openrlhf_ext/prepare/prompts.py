"""Renders the questions of a task as prompt rows {"input", "label", "datasource"} for training and evaluation."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from openrlhf_ext.data.prompts import READABLE, SYSTEM, TEMPLATES, prompt_row, read_problems, render, with_head
from openrlhf_ext.data.rationalise import WHICH, rationalise_rows
from openrlhf_ext.data.templates import REFUSED
from openrlhf_ext.prepare.chain import build_chain
from openrlhf_ext.prepare.game24_puzzles import build_puzzles
from openrlhf_ext.prepare.household import build_household
from openrlhf_ext.prepare.tokenizers import load_tokenizer
from openrlhf_ext.tasks.rows import write_jsonl

HELP = "prompt rows from a task's data"
EXAMPLE = "--task gsm8k --in gsm8k/train.jsonl --split train --out data/gsm8k.jsonl"
GENERATED: dict[str, Callable[[Path], dict[str, int]]] = {
    "game24": build_puzzles,
    "chain": build_chain,
    "household": build_household,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=READABLE, required=True)
    parser.add_argument("--split", help="part of the data: a file name in the directory of --in")
    parser.add_argument("--in", dest="source", type=Path, metavar="FILE|DIR", help="default: generated (game24, chain)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--template", choices=(*TEMPLATES, *REFUSED), default="plain")
    parser.add_argument("--tokenizer", metavar="M", help="a model whose chat template renders --template chat")
    parser.add_argument("--system", help="system message of the template (default: the task's own, if it has one)")
    parser.add_argument(
        "--rationalise",
        choices=WHICH,
        help="label tasks: ask for the reason of a given label instead, the right one, a wrong one, both, or every label",
    )
    parser.add_argument("--seed", type=int, default=42, help="which wrong label --rationalise gives (default 42)")


def run(args: argparse.Namespace) -> None:
    count = build_prompts(
        args.task,
        args.out,
        args.source,
        args.split,
        args.template,
        args.tokenizer,
        args.system,
        args.rationalise,
        args.seed,
    )
    print(f"{args.out}: {count} rows")


def build_prompts(
    task: str,
    out: Path,
    source: Path | None = None,
    split: str | None = None,
    template: str = "plain",
    tokenizer: str | None = None,
    system: str | None = None,
    rationalise: str | None = None,
    seed: int = 42,
) -> int:
    """Writes the rows and returns how many. Without a source, game24 and chain are generated with their defaults."""
    if source is not None:
        problems = read_problems(task, source, split)
    elif task in GENERATED:
        with tempfile.TemporaryDirectory() as folder:
            GENERATED[task](Path(folder))
            problems = read_problems(task, Path(folder), split)
    else:
        raise ValueError(
            f"--in is missing: give the released file of {task} (only {', '.join(GENERATED)} are generated)"
        )
    loaded = load_tokenizer(tokenizer, template)
    message = SYSTEM.get(task, "") if system is None else system
    if rationalise is not None:

        def asked(question: str) -> str:
            return render(question, template, loaded, message)

        return write_jsonl(Path(out), rationalise_rows(task, problems, rationalise, asked, seed))
    return write_jsonl(
        Path(out),
        (prompt_row(task, p, with_head(render(p.question, template, loaded, message), p.head)) for p in problems),
    )
