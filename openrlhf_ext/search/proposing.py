"""Continuations of beams from the engines, as the steps that `rollout/search.py` works on. Pure but for the callable that samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from openrlhf_ext.data.steps import split_after
from openrlhf_ext.evaluate.asking import Continuer, Prefix
from openrlhf_ext.rollout.search import Step, Tokens

Decode = Callable[[Sequence[int]], str]


@dataclass
class Proposer:
    """A `Propose` of `rollout/search.py`: `proposer(prefixes, n)` samples n continuations of each, all in one wave.

    `delimiters` end a step; without them a continuation is the whole answer. `max_new_tokens` bounds an answer, `step_tokens` one step.
    Every request has a seed made of `seed`, its prefix and its number, so that neither waves nor a resume change what is drawn.
    """

    more: Continuer
    decode: Decode
    prompts: Sequence[Tokens]
    delimiters: Sequence[str]
    temperature: float
    seed: int
    max_new_tokens: int
    step_tokens: int
    _numbers: dict[Tokens, int] = field(init=False)
    _lengths: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._numbers = {prompt: i for i, prompt in enumerate(self.prompts)}
        self._lengths = sorted({len(prompt) for prompt in self.prompts}, reverse=True)

    def __call__(self, prefixes: Sequence[Tokens], n: int) -> list[list[Step]]:
        owners = [self._owner(prefix) for prefix in prefixes]
        rooms = [
            self.max_new_tokens - len(prefix) + len(self.prompts[owner])
            for prefix, owner in zip(prefixes, owners, strict=True)
        ]
        asks = [
            Prefix(prefix, self.temperature, seed_of(self.seed, prefix, i), owner, min(room, self.step_tokens))
            for prefix, owner, room in zip(prefixes, owners, rooms, strict=True)
            for i in range(n)
            if room > 0
        ]
        answers = iter(self.more(asks) if asks else [])
        return [
            [step_of(next(answers), self.delimiters, self.decode) if room > 0 else Step((), "cut") for _ in range(n)]
            for room in rooms
        ]

    def _owner(self, prefix: Tokens) -> int:
        """The number of the longest prompt with which it begins."""
        return next(self._numbers[prefix[:n]] for n in self._lengths if prefix[:n] in self._numbers)


def seed_of(seed: int, prefix: Sequence[int], number: int) -> int:
    """A seed for continuation `number` of this prefix."""
    text = ",".join(map(str, (seed, number, *prefix)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 2**31


def step_of(answer: dict, delimiters: Sequence[str], decode: Decode) -> Step:
    """An engine's continuation as a step: without the end token, and without a token that already begins the next step.

    A delimiter such as ". " is complete only when the token " The" has come, which belongs to what follows (as in data/steps.py).
    """
    tokens = tuple(answer["tokens"])
    if answer["finish"] == "length":
        return Step(tokens, "cut")
    if answer["stop"] is None:
        return Step(tokens[:-1], "finished")
    first = len(split_after(decode(tokens), delimiters)[0])
    before, whole = decode(tokens[:-1]), decode(tokens)
    # What the last token adds; its leading blanks may belong to the delimiter.
    added = whole[len(before) :]
    begins = len(before) + len(added) - len(added.lstrip())
    overshoots = len(tokens) > 1 and added.strip() != "" and begins >= first
    return Step(tokens[:-1] if overshoots else tokens, "step")
