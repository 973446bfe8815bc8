"""How the turns of an agent are written for a model: the texts between what it reads and what it says, taken from its chat template.

    prompt    opening + observation + reply
    then      the agent's tokens, its end token last
    then      between + observation + reply, and the agent again

Only the agent's own tokens are actions, its end token among them; where it did not write one (it was cut), the text adds it as observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIRST, _SAID, _NEXT = "firstobservation", "whatwassaid", "nextobservation"
"""Contents that no template changes."""


class NoTurns(ValueError):
    """The tokenizer cannot write turns; the message says what is missing."""


@dataclass(frozen=True)
class TurnFormat:
    """See the module. `end`: text of the token `end_id` with which a turn of the agent ends; `next_reply` is usually `reply`."""

    opening: str
    reply: str
    end: str
    end_id: int
    between: str
    next_reply: str

    def first(self, text: str) -> str:
        """The prompt."""
        return self.opening + text + self.reply

    def answer(self, text: str, ended: bool) -> str:
        """What follows a turn. `ended`: the agent wrote its end token."""
        return ("" if ended else self.end) + self.between + text + self.next_reply


def turn_format(tokenizer: PreTrainedTokenizerBase) -> TurnFormat:
    """The format of this tokenizer's chat template. Raises NoTurns."""
    if not tokenizer.chat_template:
        raise NoTurns("the tokenizer has no chat template, so nobody knows how its turns are written")
    first = {"role": "user", "content": _FIRST}
    talk = [first, {"role": "assistant", "content": _SAID}, {"role": "user", "content": _NEXT}]
    alone, whole = (
        str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        for messages in ([first], talk)
    )
    if _FIRST not in alone or not all(text in whole for text in (_FIRST, _SAID, _NEXT)):
        raise NoTurns("the chat template leaves out or changes what a user or the assistant says")
    opening, reply = alone.split(_FIRST, 1)
    middle, next_reply = whole.split(_SAID, 1)[1].split(_NEXT, 1)
    end_id, end = _end_token(tokenizer, middle)
    return TurnFormat(opening, reply, end, end_id, middle.removeprefix(end), next_reply)


def _end_token(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, str]:
    """The special token with which `text`, what follows a turn, begins."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    end = str(tokenizer.decode(ids[:1], skip_special_tokens=False)) if ids else ""
    if not ids or ids[0] not in tokenizer.all_special_ids or not text.startswith(end):
        raise NoTurns(
            f"the chat template ends the assistant's turn with {text[:20]!r}, not with a special token that a model could stop at"
        )
    return int(ids[0]), end
