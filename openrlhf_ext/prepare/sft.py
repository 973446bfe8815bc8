"""Makes supervised rows {"input", "output"} from graded samples or from files with worked answers.

rft keeps the correct samples of each problem that differ, at most --per-problem of them: in their `<<a*b=c>>` equations (wrong arithmetic is
left out), for MATH by edit distance, else in their words. successes keeps all correct ones; all keeps everything. Behind its first answer
a text is cut. Half-written lines are skipped and named.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_ext.data.labels import TABLES
from openrlhf_ext.data.prompts import TEMPLATES, render
from openrlhf_ext.data.rft import DEDUPE, select_rft, tally
from openrlhf_ext.data.samples import Sample, Samples, by_problem, graded_at_first_answer, objects, read_samples
from openrlhf_ext.data.templates import REFUSED
from openrlhf_ext.prepare.arguments import at_least
from openrlhf_ext.prepare.label_sft import RATIONALES, build_label_sft
from openrlhf_ext.prepare.tokenizers import load_tokenizer
from openrlhf_ext.tasks import TASKS
from openrlhf_ext.tasks.labels import LABEL_TASKS
from openrlhf_ext.tasks.math_word import last_boxed
from openrlhf_ext.tasks.rows import Row, missing_text, read_rows, skipped, write_jsonl
from openrlhf_ext.tasks.steps import through_answer

HELP = "supervised rows from trajectories or worked answers"
EXAMPLE = "--from runs/collect/train.jsonl --select rft --per-problem 8 --out data/rft.jsonl"
SELECTIONS = ("rft", "successes", "all")
WORKED = (("input", "output"), ("question", "answer"), ("problem", "solution"), ("query", "response"))
"""Fields of worked answers: our own rows, GSM8K, MATH, Self-Explore's files."""


@dataclass(frozen=True)
class Selection:
    """Which samples become rows; `seed` is for ``edit``, which draws where a problem has more than `per_problem` different ones."""

    select: str = "rft"
    per_problem: int = 8
    dedupe: str = "auto"
    task: str = ""
    seed: int = 42


@dataclass
class Built:
    """The rows that were written, and what the user should know."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        required=True,
        metavar="FILE",
        help="trajectories or other graded samples, or worked answers as GSM8K, MATH and Self-Explore have them",
    )
    parser.add_argument("--select", choices=SELECTIONS, help="default: rft for graded samples, all for worked answers")
    parser.add_argument(
        "--per-problem", type=at_least(1), default=8, help="most samples per problem under rft (default 8)"
    )
    parser.add_argument("--dedupe", choices=DEDUPE, default="auto", help="what makes two samples the same under rft")
    parser.add_argument(
        "--task", choices=tuple(TASKS), help="the task of samples that do not name theirs, or of rows with labels"
    )
    parser.add_argument("--seed", type=int, default=42, help="which of too many samples of MATH are drawn (default 42)")
    parser.add_argument(
        "--template",
        choices=(*TEMPLATES, *REFUSED),
        default="plain",
        help="how questions of worked answers are rendered",
    )
    parser.add_argument(
        "--rationales",
        choices=RATIONALES,
        default="keep",
        help="label tasks: before the label where a row has one (keep), never (drop), or only such rows",
    )
    parser.add_argument("--tokenizer", metavar="M", help="a model whose chat template renders --template chat")
    parser.add_argument("--system", default="", help="system message of the chat template")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")


def run(args: argparse.Namespace) -> None:
    if args.task in LABEL_TASKS and not _holds_samples(args.source):
        if args.select not in (None, "all"):
            raise ValueError(
                f"--select {args.select} needs graded samples; {args.source} holds rows of {args.task}: use all"
            )
        rows = build_label_sft(
            args.task, args.source, args.out, args.rationales, args.template, args.tokenizer, args.system
        )
        print(f"{args.out}: {len(rows)} rows")
        return
    built = build_sft(
        args.source,
        args.out,
        args.select,
        args.per_problem,
        args.template,
        args.tokenizer,
        args.system,
        dedupe=args.dedupe,
        task=args.task or "",
        seed=args.seed,
    )
    print(f"{args.out}: {len(built.rows)} rows")
    for note in built.notes:
        print(f"  {note}")


def build_sft(
    source: Path,
    out: Path,
    select: str | None = None,
    per_problem: int = 8,
    template: str = "plain",
    tokenizer: str | None = None,
    system: str = "",
    *,
    dedupe: str = "auto",
    task: str = "",
    seed: int = 42,
) -> Built:
    """Writes the rows. Raises ValueError where nothing would be left."""
    source = Path(source)
    if _holds_samples(source):
        if template != "plain":
            raise ValueError("--template: prompts of trajectories are rendered already; leave it out")
        samples = read_samples(source, task)
        built = select_samples(samples, Selection(select or "rft", per_problem, dedupe, task, seed))
    else:
        if select not in (None, "all"):
            raise ValueError(f"--select {select} needs graded samples; {source} holds worked answers: use all")
        loaded = load_tokenizer(tokenizer, template)
        torn: list[str] = []
        worked = map(_question_and_answer, read_rows(source, _check_worked, torn))
        built = Built([{"input": render(q, template, loaded, system), "output": a} for q, a in worked], skipped(torn))
    if not built.rows:
        raise ValueError(f"{source}: no sample is correct, so --select {select or 'rft'} leaves nothing")
    write_jsonl(Path(out), built.rows)
    return built


def select_samples(samples: Samples, how: Selection) -> Built:
    """The chosen samples as {"input", "output"}, episodes of an agent as {"messages"}; problems in the order of the file, their samples too."""
    if how.select == "all":
        return Built([_row(sample) for sample in samples.items], samples.notes())
    ended = graded_at_first_answer(samples.items)
    groups = list(by_problem(ended).values())
    notes = samples.notes() + [f"{count} problems {what}" for what, count in sorted(tally(groups).items())]
    changed = sum(a.text != b.text for a, b in zip(samples.items, ended, strict=True))
    if changed:
        notes.append(f"{changed} samples were cut behind their first answer")
    if how.select == "successes":
        return Built([_row(sample) for sample in ended if sample.correct], notes)
    chosen = [sample for group in groups for sample in select_rft(group, how.per_problem, how.dedupe, how.seed)]
    correct = sum(sample.correct for sample in ended)
    if len(chosen) < correct:
        notes.append(
            f"{correct - len(chosen)} of {correct} correct samples left out: repeats, wrong arithmetic, or too many"
        )
    return Built([_row(sample) for sample in chosen], notes)


def _row(sample: Sample) -> Row:
    if sample.messages:
        return {"messages": list(sample.messages)}
    return {"input": sample.prompt, "output": sample.text}


def _holds_samples(source: Path) -> bool:
    """Whether the first whole row is a graded sample; worked answers have neither a prompt nor a verdict."""
    if source.suffix == ".parquet":
        return True
    if source.suffix in (".json", *TABLES):
        return False
    first = next((row for _, row in objects(source) if row is not None), {})
    return "action_ranges" in first or "prompt" in first


def _check_worked(row: Row) -> list[str]:
    return missing_text(row, *_fields(row))


def _question_and_answer(row: Row) -> tuple[str, str]:
    question, answer = (str(row[name]) for name in _fields(row))
    boxed = last_boxed(answer) if "solution" in row else None
    if boxed is not None and not through_answer(answer.replace("\\boxed", ""), "math")[1]:
        answer = f"{answer.rstrip()}\nThe answer is ${boxed}$."  # the form that samples of MATH are cut at
    return question, answer


def _fields(row: Row) -> tuple[str, str]:
    return next((names for names in WORKED if names[0] in row or names[1] in row), WORKED[0])
