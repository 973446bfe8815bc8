"""Step pairs of the 24-point game, as its authors planned and never wrote: the first wrong line against what the search does from there.

prompt = puzzle + the lines before the first wrong one (strict checker); rejected = that line and all after it; chosen = a right ending from the
state reached: rolled back out of dead states, searched to the target, pruned to about as many lines as the rejected side has. A trace that
the token limit cut off loses its last, unfinished line first.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from openrlhf_ext.data.made_pairs import Meta, Pair, Pairs
from openrlhf_ext.data.samples import Sample
from openrlhf_ext.tasks.base import LabelError
from openrlhf_ext.tasks.game24.checker import check_strict
from openrlhf_ext.tasks.game24.continuation import continuation, format_of, replay
from openrlhf_ext.tasks.game24.task import read_case

UNFINISHED = ("skip", "last")


@dataclass(frozen=True)
class TraceRule:
    """`max_lines`: most lines of either side; `unfinished`: a trace without a wrong line and without an end is left out, or its last line
    counts as wrong; `form`: None = as each trace shows; `per_problem`: most pairs of a puzzle."""

    max_lines: int = 24
    unfinished: str = "skip"
    form: str | None = None
    per_problem: int | None = None
    seed: int = 42


def make_trace_pairs(samples: Sequence[Sample], rule: TraceRule) -> Pairs:
    """At most one pair of each sample, in their order; what gives none is counted by reason."""
    traces = [_lines(sample) for sample in samples]
    shown = [format_of(trace) for trace in traces]
    ambiguous = "v2" if "v2" in shown else "v3" if "v3" in shown else "v1"
    found = Pairs()
    seen: set[tuple[str, str]] = set()
    taken: dict[str | int, int] = {}
    for number, (sample, trace, form) in enumerate(zip(samples, traces, shown, strict=True)):
        pair = _pair(sample, trace, rule.form or form or ambiguous, f"{rule.seed} {number}", rule)
        if isinstance(pair, str):
            found.left_out[pair] += 1
            continue
        key = (pair["prompt"], pair["rejected"].split("\n")[0])
        if key in seen:
            found.left_out["repeats of the same wrong line at the same place"] += 1
        elif rule.per_problem is not None and taken.get(sample.problem, 0) >= rule.per_problem:
            found.left_out["pairs beyond --per-problem"] += 1
        else:
            seen.add(key)
            taken[sample.problem] = taken.get(sample.problem, 0) + 1
            found.items.append(pair)
    return found


def _lines(sample: Sample) -> list[str]:
    """The whole lines of a trace, without blank ones at its end."""
    lines = sample.text.split("\n")
    if sample.truncated and len(lines) > 1:
        lines.pop()
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _pair(sample: Sample, lines: list[str], form: str, draw: str, rule: TraceRule) -> Pair | str:
    """The pair, or why there is none."""
    try:
        numbers, target = read_case(sample.label)
    except LabelError:
        return "traces without a puzzle in their label"
    if not lines:
        return "empty traces"
    check = check_strict("\n".join(lines), numbers, target)
    if check.wrong:
        first = check.wrong[0]
    elif check.solved:
        return "traces without a wrong line"
    elif rule.unfinished == "skip":
        return "unfinished traces without a wrong line"
    else:
        first = len(lines) - 1
    rest = lines[first:]
    rejected = "\n".join(rest[: rule.max_lines]) + ("\n" if len(rest) > rule.max_lines else "")
    try:
        stack = replay(numbers, lines[:first])
        chosen = continuation(
            stack,
            random.Random(f"game24-pairs {draw}"),
            target=target,
            lines=min(len(rest), rule.max_lines),
            form=form,
        )
    except ValueError:
        return "puzzles that have no solution"
    if chosen.split("\n")[0] == rest[0]:
        return "unfinished traces whose last line the search writes too"
    meta: Meta = {
        "kind": "step",
        "problem_id": sample.problem,
        "pit": first + 1,
        "steps": len(lines),
        "rest": "",
        "label": sample.label,
        "task": "game24",
    }
    prefix = "".join(line + "\n" for line in lines[:first])
    return {"prompt": sample.prompt + prefix, "chosen": chosen, "rejected": rejected, "meta": meta}
