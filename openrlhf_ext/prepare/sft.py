"""Makes supervised rows {"input", "output"} from graded trajectories or from files with worked answers.

rft keeps the correct samples of each problem that differ (in their `<<a*b=c>>` equations where there are any, else in their
text), at most --per-problem of them, in the order of the file; successes keeps all correct ones; all keeps everything.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from openrlhf_ext.data.prompts import TEMPLATES, render
from openrlhf_ext.data.trajectory import Trajectory, read_trajectories
from openrlhf_ext.prepare.arguments import at_least
from openrlhf_ext.prepare.tokenizers import load_tokenizer
from openrlhf_ext.tasks.rows import Row, missing_text, read_rows, write_jsonl

HELP = "supervised rows from trajectories or worked answers"
EXAMPLE = "--from runs/collect/train.jsonl --select rft --per-problem 8 --out data/rft.jsonl"
SELECTIONS = ("rft", "successes", "all")

_EQUATION = re.compile(r"<<([^<>]*)>>")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        required=True,
        metavar="FILE",
        help="trajectories, or rows with question and answer, or input and output",
    )
    parser.add_argument("--select", choices=SELECTIONS, help="default: rft for trajectories, all for worked answers")
    parser.add_argument(
        "--per-problem", type=at_least(1), default=8, help="most samples per problem under rft (default 8)"
    )
    parser.add_argument(
        "--template", choices=TEMPLATES, default="plain", help="how questions of worked answers are rendered"
    )
    parser.add_argument("--tokenizer", metavar="M", help="a model whose chat template renders --template chat")
    parser.add_argument("--system", default="", help="system message of the chat template")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")


def run(args: argparse.Namespace) -> None:
    count = build_sft(args.source, args.out, args.select, args.per_problem, args.template, args.tokenizer, args.system)
    print(f"{args.out}: {count} rows")


def build_sft(
    source: Path,
    out: Path,
    select: str | None = None,
    per_problem: int = 8,
    template: str = "plain",
    tokenizer: str | None = None,
    system: str = "",
) -> int:
    """Writes the rows and returns how many. Raises ValueError where nothing would be left."""
    source = Path(source)
    if _holds_trajectories(source):
        if template != "plain":
            raise ValueError("--template: prompts of trajectories are rendered already; leave it out")
        rows = list(select_samples(read_trajectories(source), select or "rft", per_problem))
    else:
        if select not in (None, "all"):
            raise ValueError(f"--select {select} needs graded trajectories; {source} holds worked answers: use all")
        loaded = load_tokenizer(tokenizer, template)
        rows = [
            {"input": render(question, template, loaded, system), "output": answer}
            for question, answer in map(_question_and_answer, read_rows(source, _check_worked))
        ]
    if not rows:
        raise ValueError(f"{source}: no sample is correct, so --select {select or 'rft'} leaves nothing")
    return write_jsonl(Path(out), rows)


def select_samples(trajectories: list[Trajectory], select: str, per_problem: int) -> Iterator[Row]:
    """The chosen samples as {"input", "output"}, in the order given."""
    seen: set[tuple[str, str]] = set()
    taken: Counter[str] = Counter()
    for trajectory in trajectories:
        problem, text = str(trajectory.get("problem_id", trajectory["prompt"])), trajectory.get("text")
        if text is None:
            raise ValueError(f"problem {problem}: the trajectory has no text; collect writes it")
        if select != "all" and not is_correct(trajectory):
            continue
        if select == "rft":
            key = (problem, signature(text))
            if key in seen or taken[problem] == per_problem:
                continue
            seen.add(key)
            taken[problem] += 1
        yield {"input": trajectory["prompt"], "output": text}


def is_correct(trajectory: Trajectory) -> bool:
    """`scores` is 1 for a correct answer; a file without scores counts rewards of 1 and more."""
    score = trajectory["scores"] if trajectory["scores"] is not None else trajectory["reward"]
    return score is not None and score >= 1


def signature(text: str) -> str:
    """What makes two solutions the same: their equations in order, or their words."""
    equations = _EQUATION.findall(text)
    return "|".join(equation.replace(" ", "") for equation in equations) if equations else " ".join(text.split())


def _holds_trajectories(source: Path) -> bool:
    if source.suffix == ".parquet":
        return True
    first = read_rows(source, lambda row: [])[0]
    return "action_ranges" in first


def _check_worked(row: Row) -> list[str]:
    if "question" in row or "answer" in row:
        return missing_text(row, "question", "answer")
    return missing_text(row, "input", "output")


def _question_and_answer(row: Row) -> tuple[str, str]:
    if "question" in row:
        return str(row["question"]), str(row["answer"])
    return str(row["input"]), str(row["output"])
