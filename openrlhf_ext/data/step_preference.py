"""Preference pairs as token ids: the prompt cut off at the exact token, ends where they belong, nothing truncated.

OpenRLHF's own reader (0.11.2, `RewardDataset`) strips line breaks at the end, writes " " + EOS behind both sides, puts EOS over the last token and
finds the prompt by tokenising it apart. A step that must be unlearned is then another text with another ending. Here:

- the prompt's ids are those that generation starts from; chosen and rejected are read as its continuation;
- the end token stands behind what really ends: by default the chosen side alone (Self-Explore, arXiv:2404.10346: a first wrong step ends nothing);
- line breaks stay; a pair that is too long is left out and counted, never cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from openrlhf_ext.data.offline import Encoded, continuation
from openrlhf_ext.data.pairs import Finding, Pair, Turns, few

Ends = Literal["chosen", "both", "none"]

Render = Callable[[list[dict[str, str]], bool], str]
"""Messages -> text by a chat template; the flag asks for the opening of an answer."""


class EncodedPair(NamedTuple):
    """One preference in token ids. `prompt` + `chosen` and `prompt` + `rejected` are the two sequences; none of the three is empty."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    margin: float
    place: str
    problem: str = ""

    @property
    def length(self) -> int:
        """Tokens of the longer sequence."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True)
class Encoding:
    """How texts become ids.

    `encode` adds no special tokens; `end` is the end token and its text; `begin` an id to put before prompts that lack it, or None; `ends`
    says behind which side the end token goes (a text that already ends with it keeps it, once); `template` holds one `{}`;
    `render` is the chat template, if one is applied; `with_rest` = the rejected side goes on to the end of the wrong solution.
    """

    encode: Callable[[str], Encoded]
    end: tuple[int, str]
    max_length: int
    ends: Ends = "chosen"
    begin: int | None = None
    template: str | None = None
    render: Render | None = None
    with_rest: bool = False


@dataclass(frozen=True)
class PairData:
    """Pairs to train on; `dropped`: reason -> how many; `findings`: errors and remarks, as the reader of files makes them."""

    pairs: list[EncodedPair]
    dropped: dict[str, int]
    findings: list[Finding]

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.note]


def encode_pairs(pairs: Sequence[Pair], encoding: Encoding, where: str) -> PairData:
    """The pairs as ids. `where` names their source in messages.

    Errors: a prompt or a side without a token, two sides of the same tokens, `with_rest` on pairs without a rest, nothing left.
    """
    kept: list[EncodedPair] = []
    bad: list[Finding] = []
    too_long: Counter[str] = Counter()
    longest = (0, "")
    straddling = 0
    if encoding.with_rest and pairs and not any(pair.rest for pair in pairs):
        what = f"none of its {len(pairs)} pairs says how the wrong solution goes on after the rejected step (meta.rest)"
        return PairData(
            [], {}, [Finding(where, what, "make the pairs with prepare pairs --kind step, or train on the pit")]
        )
    for pair in pairs:
        prompt, chosen, rejected = texts_of(pair, encoding)
        head, good = continuation(prompt, chosen, encoding.encode)
        _, wrong = continuation(prompt, rejected, encoding.encode)
        straddling += any(
            len(encoding.encode(prompt + side).ids) != len(head) + len(tail.ids)
            for side, tail in ((chosen, good), (rejected, wrong))
        )
        if encoding.begin is not None and head[:1] != [encoding.begin]:
            head = [encoding.begin, *head]
        fault = _fault(head, good.ids, wrong.ids, pair)
        if fault:
            bad.append(fault)
            continue
        end_id = encoding.end[0]
        found = EncodedPair(
            head,
            ended(good.ids, end_id, encoding.ends in ("chosen", "both")),
            ended(wrong.ids, end_id, encoding.ends == "both"),
            pair.margin,
            pair.place,
            pair.problem,
        )
        if found.length > encoding.max_length:
            too_long["prompt too long" if len(head) >= encoding.max_length else "too long"] += 1
            longest = max(longest, (found.length, pair.place))
        else:
            kept.append(found)
    findings = few(bad, where)
    findings += _about_lengths(where, len(pairs), too_long, longest, encoding.max_length)
    if straddling:
        what = f"in {straddling} of {len(pairs)} pairs a token would span the end of the prompt: their answers were tokenised apart"
        findings.append(
            Finding(where, what, "end prompts where the tokenizer always cuts, e.g. with a line break", True)
        )
    return PairData(kept, dict(too_long), findings)


def texts_of(pair: Pair, encoding: Encoding) -> tuple[str, str, str]:
    """(prompt, chosen, rejected) as the model reads them, without the ends that :func:`encode_pairs` adds."""
    if encoding.render is not None:
        asked = as_messages(pair.prompt, "user")
        prompt = encoding.render(asked, True)
        sides = [
            _answer(side, asked, prompt, encoding.render, encoding.end[1]) for side in (pair.chosen, pair.rejected)
        ]
    else:
        prompt = plain(pair.prompt)
        prompt = encoding.template.format(prompt) if encoding.template else prompt
        sides = [plain(pair.chosen), plain(pair.rejected)]
    return prompt, sides[0], sides[1] + (pair.rest if encoding.with_rest else "")


def plain(turns: Turns) -> str:
    """A text that is one. Raises ValueError for messages."""
    if not isinstance(turns, str):
        raise ValueError("messages need a chat template: data.apply_chat_template")
    return turns


def as_messages(turns: Turns, role: str) -> list[dict[str, str]]:
    """Messages; a text is one of `role`."""
    return [{"role": role, "content": turns}] if isinstance(turns, str) else turns


def ended(ids: list[int], end_id: int, wanted: bool) -> list[int]:
    """`ids` with the end token behind them, once; as they are where it is not wanted."""
    return [*ids, end_id] if wanted and ids[-1] != end_id else ids


def _answer(side: Turns, asked: list[dict[str, str]], prompt: str, render: Render, end: str) -> str:
    """What the chat template writes for an answer, without its closing."""
    whole = render(asked + as_messages(side, "assistant"), False)
    answer = whole[len(prompt) :] if whole.startswith(prompt) else str(as_messages(side, "assistant")[-1]["content"])
    return answer.rstrip().removesuffix(end) if answer.rstrip().endswith(end) else answer


def _fault(head: list[int], good: list[int], wrong: list[int], pair: Pair) -> Finding | None:
    for name, ids, text in (
        ("prompt", head, pair.prompt),
        ("chosen", good, pair.chosen),
        ("rejected", wrong, pair.rejected),
    ):
        if not ids:
            what = f"the tokenizer encodes {name!r} to nothing: {str(text)[:40]!r}"
            return Finding(pair.place, what, "use the tokenizer that belongs to the model, or leave the row out")
    if good == wrong:
        what = f"'chosen' and 'rejected' are the same tokens: {str(pair.chosen)[:40]!r}"
        return Finding(pair.place, what, "leave the row out: it prefers nothing")
    return None


def _about_lengths(
    where: str, count: int, too_long: Counter[str], longest: tuple[int, str], limit: int
) -> Iterable[Finding]:
    if not too_long:
        return
    reasons = ", ".join(f"{n} {reason}" for reason, n in too_long.items())
    what = (
        f"{too_long.total()} of {count} pairs are longer than data.max_len {limit} tokens and left out ({reasons}; longest {longest[0]}, "
        f"{longest[1]}): pairs are never cut"
    )
    fix = f"--data.max_len {longest[0]}"
    yield Finding(where, what, fix, note=too_long.total() < count)
