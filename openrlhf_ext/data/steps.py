"""Where the reasoning steps of a tokenised response begin."""

from collections.abc import Sequence

MATH_DELIMITERS = ("\n", ". ", ".$ ")
"""Lines, and sentences inside them: how OREO cuts solutions of MATH (arXiv:2412.16145); GSM8K's are cut at lines alone."""


def split_after(text: str, delimiters: Sequence[str]) -> list[str]:
    """The text cut after every delimiter, which stays with what it ends; joining gives the text back.

    Where several delimiters fit at one place the longest is taken. No piece is empty.
    """
    if not delimiters or "" in delimiters:
        raise ValueError(f"delimiters must be texts of at least one character, got {list(delimiters)!r}")
    longest_first = sorted(delimiters, key=len, reverse=True)
    pieces, begin, at = [], 0, 0
    while at < len(text):
        fits = next((len(mark) for mark in longest_first if text.startswith(mark, at)), 0)
        at += fits or 1
        if fits:
            pieces.append(text[begin:at])
            begin = at
    return [*pieces, text[begin:]] if begin < len(text) else pieces


def step_starts(text: str, offsets: Sequence[tuple[int, int]], steps: Sequence[str]) -> list[int]:
    """Indices of the tokens with which the steps of `text` begin, the first token included; ascending.

    `offsets`: the [start, end) characters of each token. A token belongs to the step of its first character that is not a space, so that
    " The" after ". " opens the new sentence, while "\\n\\n" closes the old line. A blank step belongs to the one before it.
    Raises ValueError where `steps` do not spell `text`.
    """
    if "".join(steps) != text:
        raise ValueError(
            f"the steps spell {''.join(steps)[:60]!r}, the text is {text[:60]!r}: a splitter must keep every character"
        )
    step_of: list[int] = []
    seen = 0
    for step in steps:
        seen += bool(step.strip())
        step_of += [max(seen - 1, 0)] * len(step)
    starts, current = [], -1
    for index, (start, end) in enumerate(offsets):
        if not step_of or start >= len(step_of):
            continue  # an end token has no characters: it belongs to the last step
        first = next((at for at in range(start, min(end, len(text))) if not text[at].isspace()), start)
        if step_of[first] > current:
            starts.append(index)
            current = step_of[first]
    return starts
