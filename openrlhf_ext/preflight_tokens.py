"""Texts through the model's own tokenizer before a run: nothing lost, nothing cut, an end that can be learned.

Why: transformers 5.15 picks the tokenizer class by model type, so a Qwen2-shaped model with its own word-level tokenizer loads
without an error and encodes every text to nothing. OpenRLHF 0.11.2 cuts prompts on the left with only a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import util
from typing import TYPE_CHECKING

from openrlhf_ext.config.load import Resolved
from openrlhf_ext.config.problem import Problem
from openrlhf_ext.memory import ModelShape
from openrlhf_ext.preflight_data import Rows
from openrlhf_ext.preflight_model import model_folder, model_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROUND_TRIPS = 300
"""Rows whose text is encoded and decoded; lengths are checked for all of them."""

_CLASS_TRAP = (
    "transformers picks the tokenizer's class by the model's type: a word-level tokenizer needs a Llama-shaped model, a "
    "Qwen2-shaped model a byte-level one"
)

Text = tuple[str, str, str]
"""Place, prompt, output."""


def token_problems(
    resolved: Resolved, train: Rows | None, held_out: Sequence[Rows | None], model: ModelShape | None
) -> list[Problem]:
    """Problems of the rows' texts with the tokenizer; a note where there is no transformers to load it."""
    folder = model_folder(resolved)
    if folder is None or not (train and train.rows):
        return []
    if util.find_spec("transformers") is None:
        what = "transformers is not installed here: prompt lengths and the tokenizer's round trip were not checked"
        return [Problem("tokenizer", what, "", note=True)]
    from transformers import AutoTokenizer

    where = resolved.where(model_key(resolved))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=not resolved.flag("data.disable_fast_tokenizer"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [Problem(where, f"its tokenizer does not load: {error}", "save the tokenizer beside the model again")]
    found = list(special_problems(where, tokenizer, model))
    if resolved.flag("data.apply_chat_template") and not tokenizer.chat_template:
        what = "the tokenizer has no chat template"
        return [
            *found,
            Problem(resolved.where("data.apply_chat_template"), what, "leave it out and use data.input_template"),
        ]
    for data in (train, *held_out):
        if data and data.rows:
            rows = list(_rendered(resolved, data, tokenizer))
            found += round_trip_problems(where, rows, tokenizer)
            found += _lengths(resolved, data, rows, tokenizer)
    return found


def special_problems(where: str, tokenizer: PreTrainedTokenizerBase, model: ModelShape | None) -> Iterator[Problem]:
    """No end token, or more tokens than the model knows."""
    if tokenizer.eos_token_id is None:
        what = "the tokenizer has no end-of-sequence token: answers would never end"
        yield Problem(where, what, "set eos_token in the tokenizer and save it again")
    if model and len(tokenizer) > model.vocabulary:
        what = f"the tokenizer has {len(tokenizer)} tokens, the model's embedding {model.vocabulary}"
        yield Problem(where, what, "use the tokenizer that belongs to the model")


def _rendered(resolved: Resolved, data: Rows, tokenizer: PreTrainedTokenizerBase) -> Iterator[Text]:
    """Rows as OpenRLHF renders them: chat template, else input template, else as they are."""
    chat, template = resolved.flag("data.apply_chat_template"), resolved.text("data.input_template")
    output_key = resolved.text("data.output_key")
    for row, place in zip(data.rows, data.places, strict=True):
        value, output = row.get(data.input_key), row.get(output_key, "") if output_key else ""
        if chat:
            yield place, *_chat(value, output, tokenizer)
        elif isinstance(value, str) and isinstance(output, str):
            yield place, template.format(value) if template else value, output


def _chat(value: object, output: object, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    messages = [{"role": "user", "content": value}] if isinstance(value, str) else _messages(value)
    answer = [{"role": "assistant", "content": output}] if isinstance(output, str) else _messages(output)
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if not output:
        return prompt, ""
    return prompt, tokenizer.apply_chat_template(messages + answer, tokenize=False)[len(prompt) :]


def _messages(value: object) -> list:
    return list(value) if isinstance(value, list) else []


def round_trip_problems(where: str, rows: Sequence[Text], tokenizer: PreTrainedTokenizerBase) -> Iterator[Problem]:
    """The first loss of each kind: empty ids, unknown tokens, text that comes back changed inside, or at its ends."""
    sample = rows[:: max(1, len(rows) // ROUND_TRIPS)]
    kinds: dict[str, Problem] = {}
    for place, prompt, output in sample:
        text = prompt + output
        ids = _encode(tokenizer, [text])[0]
        back = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if text and not ids:
            what = f"the tokenizer encodes {text[:40]!r} ({place}) to nothing"
            kinds.setdefault("empty", Problem(where, what, _CLASS_TRAP))
        elif tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
            what = f"{place} holds text that the tokenizer does not know: {text[:40]!r} comes back as {back[:40]!r}"
            kinds.setdefault("unknown", Problem(where, what, "use another tokenizer, or clean the data"))
        elif back.strip() != text.strip():
            what = f"the tokenizer changes the text: {text[:40]!r} ({place}) comes back as {back[:40]!r}"
            kinds.setdefault("changed", Problem(where, what, f"use a tokenizer that keeps the text; {_CLASS_TRAP}"))
        elif back != text:
            what = f"the tokenizer changes outer blanks: {text[-40:]!r} ({place}) comes back as {back[-40:]!r}"
            kinds.setdefault("blanks", Problem(where, what, "make sure the task does not depend on them", note=True))
    yield from kinds.values()


def _lengths(
    resolved: Resolved, data: Rows, rows: Sequence[Text], tokenizer: PreTrainedTokenizerBase
) -> Iterator[Problem]:
    if resolved.program == "ppo":
        yield from _prompt_lengths(resolved, data, rows, tokenizer)
    elif tokenizer.eos_token and rows:
        yield from _record_lengths(resolved, data, rows, tokenizer)
        yield from _record_ends(data, rows, tokenizer)


def _prompt_lengths(
    resolved: Resolved, data: Rows, rows: Sequence[Text], tokenizer: PreTrainedTokenizerBase
) -> Iterator[Problem]:
    """Longest prompt against what ``data.max_len`` leaves beside the answer."""
    max_len, new = resolved.whole("data.max_len"), resolved.whole_or_none("rollout.max_new_tokens") or 1
    room = max_len - new
    candidates = [(place, prompt) for place, prompt, _ in rows if _most_tokens(prompt) > room]
    lengths = [len(ids) for ids in _encode(tokenizer, [prompt for _, prompt in candidates])]
    too_long = [(n, place) for n, (place, _) in zip(lengths, candidates, strict=True) if n > room]
    if room > 0 and too_long:
        longest, place = max(too_long)
        what = (
            f"{len(too_long)} of {len(rows)} prompts are longer than the {room} tokens that data.max_len {max_len} leaves "
            f"beside {new} new ones (longest {longest}, {place}): OpenRLHF would cut off their beginning"
        )
        yield Problem(data.key, what, f"--data.max_len {longest + new}, or fewer rollout.max_new_tokens")


def _record_lengths(
    resolved: Resolved, data: Rows, rows: Sequence[Text], tokenizer: PreTrainedTokenizerBase
) -> Iterator[Problem]:
    """Prompt, answer and end in ``data.max_len``: a cut record would teach an end where there is none."""
    max_len = resolved.whole("data.max_len")
    texts = [(place, prompt + output) for place, prompt, output in rows]
    candidates = [(place, text) for place, text in texts if _most_tokens(text) + 1 > max_len]
    lengths = [len(ids) + 1 for ids in _encode(tokenizer, [text for _, text in candidates])]
    too_long = [(n, place) for n, (place, _) in zip(lengths, candidates, strict=True) if n > max_len]
    if too_long:
        longest, place = max(too_long)
        what = (
            f"{len(too_long)} of {len(rows)} records are longer than {max_len} tokens (longest {longest}, {place}): OpenRLHF "
            "would cut them and put the end token there"
        )
        yield Problem(resolved.where("data.max_len"), what, f"--data.max_len {longest + 1}, or remove the long records")


def _record_ends(data: Rows, rows: Sequence[Text], tokenizer: PreTrainedTokenizerBase) -> Iterator[Problem]:
    """OpenRLHF writes " " + EOS after an answer, and tokenises the prompt alone to find where the answer begins."""
    _, prompt, output = rows[0]
    text, eos = (prompt + output).rstrip("\n"), tokenizer.eos_token
    if output and not text.endswith(eos):
        plain, written = _encode(tokenizer, [text, f"{text} {eos}"])
        if written != [*plain, tokenizer.eos_token_id]:
            what = f"outputs do not end with {eos}: OpenRLHF adds a blank and {eos}, and the model learns both"
            yield Problem(data.key, what, f"end each output with {eos}", note=True)
    shifted = 0
    for _, prompt, output in rows[:ROUND_TRIPS]:
        alone, whole = _encode(tokenizer, [prompt, prompt + output])
        shifted += whole[: len(alone)] != alone
    if shifted:
        what = (
            f"in {shifted} of the first {min(len(rows), ROUND_TRIPS)} records a token spans the end of the prompt, so the "
            "loss starts one token off"
        )
        yield Problem(
            data.key, what, "end the prompt where the tokenizer always cuts, e.g. with a line break", note=True
        )


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def _most_tokens(text: str) -> int:
    """No text has more tokens: each is at least one byte (a letter may be several), and some tokenizers put a blank in front."""
    return len(text.encode(errors="replace")) + 1
