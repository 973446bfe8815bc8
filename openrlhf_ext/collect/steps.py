"""Where the steps of a sampled response begin, in its own tokens: nothing is tokenised anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from openrlhf_ext.collect.sampling import StepStarts
from openrlhf_ext.data.steps import split_after, step_starts
from openrlhf_ext.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Offsets = list[tuple[int, int]]


def token_offsets(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> Offsets:
    """[start, end) characters of each token in the decoded text, special tokens left out of it.

    Most responses are tokenised as their text would be, and then the tokenizer knows; for others every prefix is decoded.
    """
    text = tokenizer.decode(ids, skip_special_tokens=True)
    special = set(tokenizer.all_special_ids)
    plain = [i for i in ids if i not in special]
    known = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True) if tokenizer.is_fast else None
    if known is not None and list(known["input_ids"]) == plain:
        spans = iter([(int(start), int(end)) for start, end in known["offset_mapping"]])
        found, at = [], 0
        for i in ids:
            start, at = (at, at) if i in special else next(spans)
            found.append((start, at))
        return found
    return _by_prefixes(len(ids), lambda count: tokenizer.decode(ids[:count], skip_special_tokens=True), len(text))


def _by_prefixes(tokens: int, prefix: Callable[[int], str], length: int) -> Offsets:
    """Offsets from the lengths of decoded prefixes; half of a character ends in U+FFFD, which its last token takes whole."""
    ends = [0]
    for count in range(1, tokens + 1):
        text = prefix(count)
        whole = len(text) - text.endswith("\ufffd")
        ends.append(length if count == tokens else max(ends[-1], whole))
    return list(pairwise(ends))


def step_reader(tokenizer: PreTrainedTokenizerBase, task: Task, delimiters: Sequence[str] = ()) -> StepStarts:
    """Steps end after every delimiter, or where the task says if there is none."""

    def read(tokens: Sequence[int], text: str) -> list[int]:
        steps = split_after(text, delimiters) if delimiters else task.split(text)
        starts = step_starts(text, token_offsets(tokens, tokenizer), steps)
        return starts or [0]

    return read
