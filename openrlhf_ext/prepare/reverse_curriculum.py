"""Makes start states of the reverse curriculum from demonstrations: prompts that already hold the first k units of the gold solution.

Each demonstration of L units is cut at k = min(L - 1, round(i * L / M)), i = 0 .. M - 1. mixed writes every pair (demonstration, stage i)
once, shuffled; staged the same rows, the stage nearest the end first; plain only k = 0, the prompts of evaluation. --hold-out N keeps N
demonstrations out of the rows and writes their questions beside OUT as .dev.jsonl; they are the same ones in every mode.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.data.demonstrations import FORMS, read_demonstrations
from openrlhf_ext.data.prompts import TEMPLATES, render, with_head
from openrlhf_ext.data.reverse import (
    MODES,
    UNITS,
    Demonstration,
    StartState,
    arranged,
    line_ends,
    sentence_ends,
    start_states,
    token_ends,
)
from openrlhf_ext.prepare.arguments import at_least
from openrlhf_ext.prepare.dev_split import hold_out
from openrlhf_ext.prepare.row_lengths import Limits, batches
from openrlhf_ext.prepare.tokenizers import load_tokenizer, open_tokenizer
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.base import Label
from openrlhf_ext.tasks.rows import Row, write_jsonl

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HELP = "start states that slide back along demonstrations"
EXAMPLE = "--task gsm8k --demos gsm8k/train.jsonl --mode mixed --out data/gsm8k_mixed.jsonl"
SHOWN = 20
NO_LIMITS = Limits()


@dataclass(frozen=True)
class Summary:
    """What was written and what was not; ``too_long`` holds one line of text for each row left out."""

    rows: int
    demonstrations: int
    short: int
    rejected: tuple[str, ...]
    too_long: tuple[str, ...]
    mixed: int
    repeats: int
    held_out: int

    def lines(self) -> Iterator[str]:
        yield f"{self.rows} rows from {self.demonstrations} demonstrations"
        if self.held_out:
            yield f"{self.held_out} more demonstrations are held out: the .dev.jsonl beside it has their questions"
        if self.short:
            yield f"{self.short} demonstrations have fewer than 2 units: all their rows start from the question (k = 0)"
        if self.mixed:
            yield f"{self.mixed} rows were start states already: put together again, {self.repeats} of them repeats"
        if self.rejected:
            yield f"left out {len(self.rejected)} demonstrations whose own answer the verifier rejects: {_some(self.rejected)}"
        if self.too_long:
            yield f"left out {len(self.too_long)} rows without room to generate: {_some(self.too_long)}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=tuple(FORMS), required=True)
    parser.add_argument("--demos", type=Path, required=True, metavar="FILE", help="released files are read as they are")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--stages", type=at_least(1), default=5, help="start states per demonstration, M (default 5)")
    parser.add_argument("--unit", choices=UNITS, help="what a demonstration is cut into (default: the task's own)")
    parser.add_argument("--mode", choices=MODES, default="mixed", help="default mixed")
    parser.add_argument(
        "--template", choices=TEMPLATES, default="plain", help="how the question is rendered (default plain)"
    )
    parser.add_argument("--tokenizer", metavar="M", help="for --unit token, --template chat and --max-tokens")
    parser.add_argument("--system", default="", help="system message of the chat template")
    parser.add_argument(
        "--max-tokens",
        type=at_least(1),
        metavar="N",
        help="leave out and list rows whose input, completion and end token need more than N tokens (default: no limit)",
    )
    parser.add_argument(
        "--max-prompt-tokens",
        type=at_least(1),
        metavar="N",
        help="the same for rows whose input alone needs more than N",
    )
    parser.add_argument(
        "--hold-out", type=at_least(0), default=0, metavar="N", help="demonstrations kept for a dev split (default 0)"
    )
    parser.add_argument("--seed", type=int, default=42)


def run(args: argparse.Namespace) -> None:
    summary = build_reverse_curriculum(
        args.task,
        args.demos,
        args.out,
        stages=args.stages,
        unit=args.unit,
        mode=args.mode,
        template=args.template,
        tokenizer=args.tokenizer,
        system=args.system,
        limits=Limits(args.max_tokens, args.max_prompt_tokens),
        held_out=args.hold_out,
        seed=args.seed,
    )
    first, *notes = summary.lines()
    print(f"{args.out}: {first}")
    for note in notes:
        print(f"  {note}")


def build_reverse_curriculum(
    task: str,
    demos: Path,
    out: Path,
    *,
    stages: int = 5,
    unit: str | None = None,
    mode: str = "mixed",
    template: str = "plain",
    tokenizer: str | None = None,
    system: str = "",
    limits: Limits = NO_LIMITS,
    held_out: int = 0,
    seed: int = 42,
) -> Summary:
    """Writes rows {"input", "label", "datasource", "stage", "prefix_units", "units", "id", "completion"}.

    With ``held_out`` also the questions (k = 0) of that many other demonstrations, in the same form, to `dev_file(out)`.

    Raises ValueError for wrong options or demonstrations, all faults of the file listed, before anything is written.
    """
    verifier = make_task({"name": task})

    def accepts(solution: str, label: Label) -> bool:
        return verifier.verify(solution, label).correct

    cut = unit or FORMS[task].unit
    encoder = _encoder(tokenizer, cut, limits)
    chat = load_tokenizer(tokenizer, template)
    found = read_demonstrations(task, Path(demos), accepts)
    training, dev = hold_out(found.items, held_out, seed)

    def rows_of(demonstrations: Sequence[Demonstration], stages: int, mode: str) -> list[Row]:
        pairs = zip(demonstrations, _unit_ends(demonstrations, cut, encoder), strict=True)
        states = [state for demonstration, ends in pairs for state in start_states(demonstration, ends, stages)]
        return [
            _row(state, render(state.demonstration.question, template, chat, system))
            for state in arranged(states, mode, seed)
        ]

    rows = rows_of(training, stages, mode)
    kept, too_long = limits.within(rows, encoder)
    dev_rows, dev_too_long = limits.within(rows_of(dev, 1, "plain"), encoder)
    if not kept:
        raise ValueError(f"{limits} leaves no row: {_some(too_long)}")
    write_jsonl(Path(out), kept)
    if dev_rows:
        write_jsonl(dev_file(Path(out)), (row | {"datasource": task} for row in dev_rows))
    return Summary(
        rows=len(kept),
        demonstrations=len(training),
        short=len({row["id"] for row in rows if row["units"] in (0, 1)}),
        rejected=tuple(found.rejected),
        too_long=(*too_long, *dev_too_long),
        mixed=found.mixed,
        repeats=found.repeats,
        held_out=len(dev_rows),
    )


def dev_file(out: Path) -> Path:
    """`mixed.jsonl` -> `mixed.dev.jsonl`."""
    return out.with_name(f"{out.stem}.dev.jsonl")


def _row(state: StartState, prompt: str) -> Row:
    """The prefix is written behind the rendered prompt: in a chat it continues the assistant's turn."""
    if state.prefix + state.completion != state.demonstration.text:
        raise RuntimeError(f"{state.demonstration.id}: prefix and completion do not spell the demonstration")
    text, label = prompt + state.prefix, state.demonstration.label
    if state.demonstration.given:  # a program can only be run with what the prompt holds of it
        text, label = with_head(prompt, state.prefix), label | {"prefix": state.prefix}
    return {
        "input": text,
        "label": json.dumps(label),
        "datasource": f"stage_{state.stage}",
        "stage": state.stage,
        "prefix_units": state.prefix_units,
        "units": state.units,
        "id": state.demonstration.id,
        "completion": state.completion,
    }


def _encoder(name: str | None, unit: str, limits: Limits) -> "PreTrainedTokenizerBase | None":
    if unit != "token" and not limits:
        return None
    if name is None:
        what = "--unit token" if unit == "token" else "--max-tokens"
        raise ValueError(
            f"{what} needs --tokenizer: the model whose tokens to count (or cut by --unit line or sentence)"
        )
    tokenizer = open_tokenizer(name)
    if unit == "token" and not tokenizer.is_fast:
        raise ValueError(
            f"--unit token: the tokenizer of {name} tells no character offsets; one with a tokenizer.json does"
        )
    return tokenizer


def _unit_ends(
    demonstrations: Sequence[Demonstration], unit: str, tokenizer: "PreTrainedTokenizerBase | None"
) -> list[list[int]]:
    texts = [demonstration.rationale for demonstration in demonstrations]
    if unit != "token" or tokenizer is None:
        ends_of = line_ends if unit == "line" else sentence_ends
        return [ends_of(text) for text in texts]
    ends: list[list[int]] = []
    for batch in batches(texts, "cutting"):
        offsets = tokenizer(batch, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        ends += [token_ends(text, spans) for text, spans in zip(batch, offsets, strict=True)]
    return ends


def _some(items: Iterable[str]) -> str:
    listed = list(items)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
