"""Start states of the reverse curriculum (Xi et al. 2024, arXiv:2402.05808): a question and the first part of its demonstration.

A demonstration is a rationale of L units (lines, sentences or model tokens) and an ending that holds the answer. Start state i of M
keeps the first k_i units in the prompt and leaves the rest, the ending always included, to the policy. Stage 0 is the bare question.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

UNITS = ("line", "sentence", "token")
MODES = ("mixed", "staged", "plain")

_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*\s+")


@dataclass(frozen=True)
class Demonstration:
    """A gold solution: ``rationale`` (which may be cut) and ``ending`` (the answer, which may not) spell it, character for character.

    The first ``given`` characters are part of every prompt, whatever k is: the head of a program.
    """

    id: str
    question: str
    rationale: str
    ending: str
    label: dict[str, object]
    given: int = 0

    @property
    def text(self) -> str:
        return self.rationale + self.ending


@dataclass(frozen=True)
class StartState:
    """``prefix`` goes behind the rendered question; ``completion`` is the gold continuation. Together they are the demonstration."""

    demonstration: Demonstration
    stage: int
    prefix_units: int
    units: int
    prefix: str
    completion: str


def prefix_lengths(units: int, stages: int = 5) -> list[int]:
    """k_i = max(0, min(L - 1, round(i * L / M))) for i = 0 .. M - 1, with L = ``units`` and M = ``stages``.

    The rule behind the paper's released mixed data, where M = 5. A tie goes to the even number (no tie exists for M = 5). Short
    demonstrations repeat a cut, which weights the mixture; k_0 = 0 always, and at least one unit is always left to produce.
    """
    if units < 0 or stages < 1:
        raise ValueError(f"units={units}, stages={stages}: give at least 0 units and 1 stage")
    return [max(0, min(units - 1, round(i * units / stages))) for i in range(stages)]


def line_ends(text: str) -> list[int]:
    """Where each line ends, its newline included; blank lines count, only ``\\n`` ends a line."""
    ends = [match.end() for match in re.finditer("\n", text)]
    return ends if text.endswith("\n") or not text else [*ends, len(text)]


def sentence_ends(text: str) -> list[int]:
    """Where each sentence ends: after ``.``, ``!`` or ``?``, closing quotes, and the white space behind them."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return ends if not text or (ends and ends[-1] == len(text)) else [*ends, len(text)]


def token_ends(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Where each token ends, from the [start, end) characters of the tokens of ``text``.

    Tokens that share a character (bytes of one letter) count as one unit, tokens without characters as none: every end is a place
    where the text itself can be cut.
    """
    spans = [(start, end) for start, end in offsets if end > start]
    ends = [end for (_, end), (following, _) in pairwise(spans) if following >= end]
    return [*ends, len(text)] if spans else []


def start_states(demonstration: Demonstration, ends: Sequence[int], stages: int = 5) -> list[StartState]:
    """The start states of one demonstration, stage 0 first; ``ends`` are the places in its rationale where the units end.

    Raises ValueError where ``ends`` do not cover the rationale in ascending order.
    """
    bounds = [0, *ends]
    if bounds[-1] != len(demonstration.rationale) or any(left >= right for left, right in pairwise(bounds)):
        raise ValueError(
            f"{demonstration.id}: units end at {list(ends)[:20]}, the rationale has {len(demonstration.rationale)} characters: "
            "ends must ascend and the last one must be the end of the rationale"
        )
    text, lengths = demonstration.text, prefix_lengths(len(ends), stages)
    cuts = [max(demonstration.given, bounds[k]) for k in lengths]
    return [
        StartState(demonstration, stage, k, len(ends), prefix=text[:cut], completion=text[cut:])
        for stage, (k, cut) in enumerate(zip(lengths, cuts, strict=True))
    ]


def arranged(states: Iterable[StartState], mode: str, seed: int = 42) -> list[StartState]:
    """The start states in training order.

    mixed: all, shuffled; staged: the same order, sorted so that the stage nearest the end (the highest) comes first; plain: stage 0
    of it alone.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: choose one of {', '.join(MODES)}")
    shuffled = list(states)
    random.Random(f"reverse-curriculum {seed}").shuffle(shuffled)
    if mode == "staged":
        return sorted(shuffled, key=lambda state: -state.stage)
    return shuffled if mode == "mixed" else [state for state in shuffled if state.stage == 0]
