"""Value-guided search: step-level beam search over answers, best-of-K over the turns of an agent.

OREO, arXiv:2412.16145, test-time search. Pure control: sampling and reading values are callables, so that the same search runs on engines,
on an endpoint or on a toy. All problems advance together: one call to `propose` and one to `value` per step for every live beam.

Where the value is read. A value model is trained at the states in which the policy acted: after every token from the last prompt token to
the one before the end token (EOS, or the token that ends a turn). So `value` is always asked for a prefix *with* its last token and its
delimiter and *without* the end token: two candidates that differ in their last token only are told apart, and no untrained state is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Tokens = tuple[int, ...]
End = Literal["step", "finished", "cut"]


@dataclass(frozen=True)
class Step:
    """One sampled continuation: its tokens with the delimiter, without the end token.

    `end`: ``step`` = stopped at a delimiter; ``finished`` = the policy emitted its end token; ``cut`` = the token limit came first.
    """

    tokens: Tokens
    end: End


Propose = Callable[[Sequence[Tokens], int], Sequence[Sequence[Step]]]
"""(prefixes, n) -> n continuations of each prefix, in order."""
Value = Callable[[Sequence[Tokens]], Sequence[float]]
"""Prefixes -> the value at the last token of each. Every prefix of a call is different."""


@dataclass(frozen=True)
class Beam:
    """A partial or finished answer of one problem; `response` excludes the prompt and the end token."""

    prompt: Tokens
    response: Tokens
    steps: int
    value: float
    finished: bool

    @property
    def prefix(self) -> Tokens:
        return self.prompt + self.response


@dataclass
class Counts:
    """What happened to the candidates of one problem."""

    proposed: int = 0
    duplicates: int = 0  # merged into an equal candidate of the same step
    cut: int = 0  # dropped: neither a whole step nor an answer
    values_read: int = 0  # candidates scored
    tokens: int = 0  # tokens of all continuations, the cut ones too, without end tokens
    capped: bool = False  # beams were still alive at the step cap


@dataclass
class SearchResult:
    """`finished` and `unfinished` in falling order of value; `unfinished` are the beams alive at the end, which never compete for `best`."""

    finished: list[Beam] = field(default_factory=list)
    unfinished: list[Beam] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)

    @property
    def best(self) -> Beam | None:
        """The finished answer of the highest value; None where nothing finished."""
        return self.finished[0] if self.finished else None


@dataclass(frozen=True)
class Choice:
    """The turn to play: `tokens` without the end token; None where every sample was cut. `candidates` in falling order of value."""

    tokens: Tokens | None
    value: float
    candidates: tuple[Beam, ...]
    counts: Counts


def beam_search(
    prompts: Sequence[Tokens],
    propose: Propose,
    value: Value,
    *,
    beams: int,
    samples: int | None = None,
    max_steps: int = 20,
    enough: int | None = None,
) -> list[SearchResult]:
    """For each prompt keep the `beams` best partial answers after every step, each continued `samples` (default `beams`) times.

    Finished answers leave the beam and wait aside; a problem ends when none of its beams lives, when it has `enough` finished answers, or
    after `max_steps` steps. Ties go to the candidate found first, so equal inputs give equal results. Raises ValueError for a callable
    that returns the wrong number of things, a step without tokens, or a value that is not a number.
    """
    samples = beams if samples is None else samples
    _require_positive(beams=beams, samples=samples, max_steps=max_steps, enough=1 if enough is None else enough)
    results = [SearchResult() for _ in prompts]
    live = [[Beam(tuple(prompt), (), 0, math.nan, False)] for prompt in prompts]
    for _ in range(max_steps):
        searching = [i for i, found in enumerate(results) if live[i] and not _has(found.finished, enough)]
        if not searching:
            break
        grown = _grow([(results[i].counts, live[i]) for i in searching], propose, value, samples)
        for i, candidates in zip(searching, grown, strict=True):
            results[i].finished = _ranked([*results[i].finished, *(c for c in candidates if c.finished)])
            live[i] = _ranked([c for c in candidates if not c.finished])[:beams]
    for found, left in zip(results, live, strict=True):
        found.unfinished = left
        found.counts.capped = bool(left) and not _has(found.finished, enough)
    return results


def best_of(prefixes: Sequence[Tokens], propose: Propose, value: Value, *, k: int) -> list[Choice]:
    """For each prefix the complete continuation (one turn of an agent, or a whole answer) of the highest value among `k` samples.

    Only ``finished`` samples are complete; the others count as cut. Ties go to the sample drawn first.
    """
    _require_positive(k=k)
    starts = [(Counts(), [Beam(tuple(prefix), (), 0, math.nan, False)]) for prefix in prefixes]
    choices = []
    for (counts, _), grown in zip(starts, _grow(starts, propose, value, k, whole=True), strict=True):
        ranked = _ranked(grown)
        tokens, best = (ranked[0].response, ranked[0].value) if ranked else (None, math.nan)
        choices.append(Choice(tokens, best, tuple(ranked), counts))
    return choices


def _grow(
    problems: Sequence[tuple[Counts, Sequence[Beam]]],
    propose: Propose,
    value: Value,
    samples: int,
    whole: bool = False,
) -> list[list[Beam]]:
    """Different, scored continuations of the beams of each problem, in the order found. `whole`: only finished ones."""
    parents = [beam for _, beams in problems for beam in beams]
    answers = list(propose([beam.prefix for beam in parents], samples)) if parents else []
    if len(answers) != len(parents) or any(len(steps) != samples for steps in answers):
        raise ValueError(
            f"propose was asked for {samples} continuations of {len(parents)} prefixes and returned {[len(s) for s in answers]}"
        )
    continued = iter(zip(parents, answers, strict=True))
    found: list[dict[tuple[Tokens, bool], int]] = []
    for counts, beams in problems:
        kept: dict[tuple[Tokens, bool], int] = {}
        for parent, steps in (next(continued) for _ in beams):
            for step in steps:
                _count(counts, kept, parent, step, whole)
        found.append(kept)
    prefixes = [
        beams[0].prompt + response for (_, beams), kept in zip(problems, found, strict=True) for response, _ in kept
    ]
    read = _read(value, prefixes)
    scored = []
    for (counts, beams), kept in zip(problems, found, strict=True):
        prompt = beams[0].prompt
        counts.values_read += len(kept)
        scored.append([Beam(prompt, r, steps, read[prompt + r], done) for (r, done), steps in kept.items()])
    return scored


def _count(counts: Counts, kept: dict[tuple[Tokens, bool], int], parent: Beam, step: Step, whole: bool) -> None:
    """Keep the continuation under its tokens unless it is cut or already there."""
    counts.proposed += 1
    counts.tokens += len(step.tokens)
    if step.end == "cut" or (whole and step.end != "finished"):
        counts.cut += 1
        return
    if step.end == "step" and not step.tokens:
        raise ValueError(
            f"propose returned a step without tokens after {len(parent.prefix)} tokens: it would never end"
        )
    key = (parent.response + tuple(step.tokens), step.end == "finished")
    if key in kept:
        counts.duplicates += 1
    else:
        kept[key] = parent.steps + 1


def _read(value: Value, prefixes: Sequence[Tokens]) -> dict[Tokens, float]:
    """The values of the different prefixes, from one call."""
    different = list(dict.fromkeys(prefixes))
    values = [float(v) for v in value(different)] if different else []
    if len(values) != len(different):
        raise ValueError(f"value was asked about {len(different)} prefixes and returned {len(values)} numbers")
    broken = [i for i, v in enumerate(values) if math.isnan(v)]
    if broken:
        raise ValueError(
            f"the value of {len(broken)} of {len(values)} prefixes is not a number: is the value model broken?"
        )
    return dict(zip(different, values, strict=True))


def _ranked(beams: Sequence[Beam]) -> list[Beam]:
    """Different responses in falling order of value; the sort is stable, so ties keep the order in which they were found."""
    different = {(beam.response, beam.finished): beam for beam in reversed(beams)}
    return sorted((b for b in beams if different[(b.response, b.finished)] is b), key=lambda beam: -beam.value)


def _has(finished: Sequence[Beam], enough: int | None) -> bool:
    return enough is not None and len(finished) >= enough


def _require_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
