"""How a run reads its preferences, as plain values: the same on the machine that checks the request and in every worker that trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from openrlhf_ext.data.offline import Encoded
from openrlhf_ext.data.pairs import Columns, PairRows, files_of, read_pairs
from openrlhf_ext.data.step_preference import Encoding, Ends, PairData, Render, encode_pairs


class Tokenizer(Protocol):
    """What is used of a tokenizer of transformers (a fast one: the offsets of tokens are needed)."""

    eos_token_id: int
    eos_token: str
    bos_token_id: int | None

    def __call__(self, text: str, *, add_special_tokens: bool, return_offsets_mapping: bool) -> dict: ...

    def apply_chat_template(
        self, messages: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str: ...


@dataclass(frozen=True)
class PairOptions:
    """`columns` of the files; `max_length` in tokens; `ends`, `bos`, `template`, `with_rest`: see `step_preference.Encoding`; `chat`: apply
    the tokenizer's chat template, or `chat_template` where one is given; `good_reward`: KTO's border between good and bad."""

    columns: Columns
    max_length: int
    ends: Ends = "chosen"
    bos: bool = False
    template: str | None = None
    chat: bool = False
    chat_template: str | None = None
    with_rest: bool = False
    good_reward: float = 1.0


def read_source(names: str, options: PairOptions, limit: int) -> PairRows:
    """The first `limit` pairs of a comma-separated list of files."""
    found = read_pairs(files_of(names), options.columns, messages=options.chat)
    return PairRows(found.pairs[:limit], found.findings)


def encode_source(rows: PairRows, options: PairOptions, tokenizer: Tokenizer, where: str) -> PairData:
    """Their token ids; the findings are those of the tokens alone."""
    return encode_pairs(rows.pairs, encoding_of(options, tokenizer), where)


def encoding_of(options: PairOptions, tokenizer: Tokenizer) -> Encoding:
    """How `tokenizer` turns texts into ids. Raises ValueError for a begin token that is wanted but not there."""
    if options.bos and tokenizer.bos_token_id is None:
        raise ValueError("preference.bos is on, but the tokenizer has no begin token: switch it off")
    return Encoding(
        encode=encoder(tokenizer),
        end=(tokenizer.eos_token_id, tokenizer.eos_token),
        max_length=options.max_length,
        ends=options.ends,
        begin=tokenizer.bos_token_id if options.bos else None,
        template=options.template,
        render=_renderer(options, tokenizer) if options.chat else None,
        with_rest=options.with_rest,
    )


def encoder(tokenizer: Tokenizer) -> Callable[[str], Encoded]:
    """Ids of a text with the characters that each stands for; no special tokens are added."""

    def encode(text: str) -> Encoded:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return Encoded(list(found["input_ids"]), [(int(start), int(end)) for start, end in found["offset_mapping"]])

    return encode


def _renderer(options: PairOptions, tokenizer: Tokenizer) -> Render:
    given = {"chat_template": options.chat_template} if options.chat_template else {}

    def render(messages: list[dict[str, str]], opening: bool) -> str:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opening, **given)

    return render


def raise_for(findings: Sequence[tuple]) -> None:
    """ValueError with every error of the files, one per line; nothing where there is none."""
    lines = [f"{place}: {what}" for place, what, _, note in findings if not note]
    if lines:
        raise ValueError("\n".join(lines))
