"""Where the steps of a written solution end, and where its answer is.

Two rules. ``lines``: every line is a step (GSM8K, chains, traces of the 24-point game). ``math``: prose with formulas, cut at sentences and
put together to at most nine pieces of similar size (Self-Explore, arXiv:2404.10346, its rules for MATH). In both the answer is a step of
its own, blank lines belong to no step, and joining the steps gives the text without its blank lines.
"""

import re
from collections.abc import Callable, Mapping

from openrlhf_ext.tasks.base import split_lines

MIN_CHARS = 20
"""No piece of a MATH solution is shorter, where it has neighbours to join."""
MIN_SHARE = 0.3
"""Nor shorter than this share of the mean piece."""
MAX_PIECES = 9
FEW = 3
"""A solution of so few steps has its long steps cut once more."""
LONG_CHARS = 60

_SENTENCE_END = re.compile(r"(?<=\.\$ )|(?<=\$\. )")
_CUT = re.compile(r" so\b| and\b|, which\b|\bThus\b|\bthus\b|\bTherefore\b|=")
_MARK = re.compile(r"####|\bthe answer is\b(?=[^\n]*[0-9\\$])", re.IGNORECASE)
_OPENS_SENTENCE = re.compile(r"(?:^|[.!?$]\s+)$")
_FINAL_LINE = re.compile(r"reach -?[0-9]+! expression:", re.ASCII)


def line_steps(text: str) -> list[str]:
    """The lines that are not blank, each with its newline; an answer that ends a line of prose is a step of its own."""
    return [part for line in split_lines(text) if line.strip() for part in _detached(line)]


def math_steps(text: str) -> list[str]:
    """Sentences and lines, short ones joined to a neighbour, then the shortest neighbours joined until at most nine are left."""
    lines = [line for line in split_lines(text) if line.strip()]
    pieces = _capped(_without_short([piece for line in lines for piece in _SENTENCE_END.split(line) if piece]))
    steps = [part for piece in pieces for part in _detached(piece)]
    if len(steps) > FEW:
        return steps
    return [part for step in steps for part in ([step] if _MARK.search(step) else _halves(step))]


SPLITTERS: Mapping[str, Callable[[str], list[str]]] = {"lines": line_steps, "math": math_steps}


def splitter_of(task: str) -> str:
    """The rule that a task's solutions are cut by unless another is asked for."""
    return "math" if task == "math" else "lines"


def through_answer(text: str, task: str) -> tuple[str, bool]:
    r"""The text up to the line of its first answer, and whether it has one.

    An answer is marked by `####` or "the answer is", else by the first `\boxed{}`; what a model writes behind it is no part of the solution.
    A trace of the 24-point game is never cut, because nothing may follow its final line.
    """
    if task == "game24":
        lines = text.rstrip().split("\n")
        return text, _FINAL_LINE.match(lines[-1].strip()) is not None
    mark = _MARK.search(text)
    start = mark.end() if mark else text.find("\\boxed{")
    if start < 0:
        return text, False
    newline = text.find("\n", start)
    end = len(text) if newline < 0 else newline + 1
    again = _MARK.search(text, start, end) if mark else None
    return text[: again.start() if again else end], True


def _detached(piece: str) -> list[str]:
    """The piece, or what stands before its answer and the answer, where a sentence of its own says it."""
    mark = _MARK.search(piece)
    if mark is None or not piece[: mark.start()].strip():
        return [piece]
    start = mark.start()
    if piece[start] != "#" and not _OPENS_SENTENCE.search(piece[:start]) and piece[start - 1] != "\n":
        start = piece.rfind("\n", 0, start) + 1  # "So the answer is 5." is one line: it stays whole
    return [piece[:start], piece[start:]] if piece[:start].strip() else [piece]


def _without_short(pieces: list[str]) -> list[str]:
    """The shortest piece below the limit joins its shorter neighbour, until none is below it."""
    pieces = list(pieces)
    if not pieces:
        return pieces
    limit = max(float(MIN_CHARS), MIN_SHARE * sum(map(_size, pieces)) / len(pieces))
    while len(pieces) > 1:
        at = min(range(len(pieces)), key=lambda i: (_size(pieces[i]), i))
        if _size(pieces[at]) >= limit:
            break
        left = at > 0 and (at == len(pieces) - 1 or _size(pieces[at - 1]) <= _size(pieces[at + 1]))
        _join(pieces, at - 1 if left else at)
    return pieces


def _capped(pieces: list[str]) -> list[str]:
    while len(pieces) > MAX_PIECES:
        _join(pieces, min(range(len(pieces) - 1), key=lambda i: (_size(pieces[i]) + _size(pieces[i + 1]), i)))
    return pieces


def _join(pieces: list[str], at: int) -> None:
    pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]


def _halves(step: str) -> list[str]:
    """A long step cut once, as near to its middle as a connecting word or an equals sign allows; both halves above 20 characters."""
    if _size(step) <= LONG_CHARS:
        return [step]
    places = [m.start() for m in _CUT.finditer(step)]
    fits = [at for at in places if _size(step[:at]) > MIN_CHARS and _size(step[at:]) > MIN_CHARS]
    if not fits:
        return [step]
    cut = min(fits, key=lambda at: (abs(2 * at - len(step)), at))
    return [step[:cut], step[cut:]]


def _size(piece: str) -> int:
    return len(piece.strip())
