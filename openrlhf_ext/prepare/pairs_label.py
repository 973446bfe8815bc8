"""`prepare pairs --kind label`: answers of a label task -> the right label above a wrong one."""

import argparse
from collections.abc import Callable
from pathlib import Path

from openrlhf_ext.data.candidates import Candidate, Candidates, read_candidates
from openrlhf_ext.data.label_pairs import confusion_of, label_pair_faults, make_label_pairs
from openrlhf_ext.data.labels import read_label_examples
from openrlhf_ext.data.made_pairs import Pairs
from openrlhf_ext.data.prompts import TEMPLATES, render
from openrlhf_ext.data.ranked_file import holds_ranked_pairs, read_ranked_pairs
from openrlhf_ext.data.templates import REFUSED
from openrlhf_ext.prepare.pairs import Built, left_out
from openrlhf_ext.prepare.tokenizers import load_tokenizer
from openrlhf_ext.tasks.labels import LABEL_TASKS, LabelSpec, load_spec
from openrlhf_ext.tasks.rows import read_rows

RANKED = "ranked pairs of the file, each checked"


def add_arguments(parser: "argparse._ArgumentGroup") -> None:
    parser.add_argument(
        "--confusion",
        type=Path,
        metavar="FILE",
        help="sampled answers of a model to the same task: wrong labels as often as it gives them (default: uniform)",
    )
    parser.add_argument(
        "--bare",
        action="store_true",
        help="from a task's released file or rows: the gold label line above another one, no rationales",
    )
    parser.add_argument(
        "--template",
        choices=(*TEMPLATES, *REFUSED),
        default="plain",
        help="label and rationale: how questions are rendered that are not prompts yet (default plain)",
    )
    parser.add_argument(
        "--held-out",
        type=Path,
        metavar="FILE",
        help="label and rationale: prompts (or pairs) that must stay unseen; pairs of these prompts are left out",
    )
    parser.add_argument("--tokenizer", metavar="M", help="a model whose chat template renders --template chat")
    parser.add_argument("--system", default="", help="system message of the template")


def build(args: argparse.Namespace) -> Built:
    """Raises ValueError for rows that cannot be read, each named."""
    spec, asked = task_of(args), renderer(args)
    if not args.bare and holds_ranked_pairs(args.source):
        return unseen(Built(read_ranked_pairs("label", spec, args.source, asked), [RANKED]), args.held_out)
    found = bare(spec, args.source, asked) if args.bare else read_candidates(spec, args.source, asked)
    confusion = None
    if args.confusion is not None:
        confusion = confusion_of(read_candidates(spec, args.confusion, asked).items)
        if not confusion:
            raise ValueError(f"{args.confusion}: not one wrong label in it, so there is nothing to draw by")
    pairs = make_label_pairs(found.items, per_problem=args.per_problem or 1, confusion=confusion, seed=args.seed)
    broken = [fault for pair in pairs.items for fault in label_pair_faults(pair["chosen"], pair["rejected"], spec)]
    return unseen(built(pairs, broken, found), args.held_out)


def bare(spec: LabelSpec, source: Path, render: Callable[[str], str]) -> Candidates:
    """For every example one answer per label, the label line alone."""
    examples = read_label_examples(spec.name, source)
    prompts = {example.id: render(example.question) for example in examples}
    return Candidates(
        [Candidate(e.id, prompts[e.id], e.label, label, "") for e in examples for label in spec.labels],
    )


def task_of(args: argparse.Namespace) -> LabelSpec:
    """The label task named by --task. Raises ValueError where it is none."""
    if args.task not in LABEL_TASKS:
        raise ValueError(f"--task {args.task}: --kind {args.kind} needs a label task, one of {', '.join(LABEL_TASKS)}")
    return load_spec(args.task)


def renderer(args: argparse.Namespace) -> Callable[[str], str]:
    """How a question becomes a prompt."""
    tokenizer = load_tokenizer(args.tokenizer, args.template)
    return lambda question: render(question, args.template, tokenizer, args.system)


def unseen(made: Built, held_out: Path | None) -> Built:
    """Without pairs whose prompt stands in the held-out file."""
    if held_out is None:
        return made
    rows = read_rows(held_out, lambda row: [] if "input" in row or "prompt" in row else ["input: missing"])
    prompts = {str(row.get("prompt", row.get("input"))) for row in rows}
    kept = [pair for pair in made.rows if pair["prompt"] not in prompts]
    dropped = len(made.rows) - len(kept)
    return Built(kept, made.notes + ([f"left out: {dropped} pairs of held-out prompts"] if dropped else []))


def built(pairs: Pairs, broken: list[str], found: Candidates) -> Built:
    """The pairs with what was left out. Raises ValueError where a pair does not keep its promise."""
    if broken:
        raise ValueError("\n".join(broken[:20]))
    return Built(pairs.items, left_out({**found.left_out, **pairs.left_out}))
