"""Loading the tokenizer that a template needs, with an error that says what to give."""

from typing import TYPE_CHECKING

from openrlhf_ext.data.templates import REFUSED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(name: str | None, template: str) -> "PreTrainedTokenizerBase | None":
    """The tokenizer for a template that needs it (chat, and those with a first token); None for the others.

    Raises ValueError where it is missing or lacks what the template takes from it.
    """
    if template in REFUSED:
        raise ValueError(f"--template {template} is not offered: {REFUSED[template]}")
    if template != "chat" and not template.endswith("-bos"):
        return None
    if name is None:
        raise ValueError(
            f"--template {template} needs --tokenizer: a model directory or name whose chat template to use"
        )
    tokenizer = open_tokenizer(name)
    if template.endswith("-bos"):
        if not tokenizer.bos_token:
            raise ValueError(f"the tokenizer of {name} has no first token: leave -bos out of the template's name")
        return tokenizer
    if not tokenizer.chat_template:
        raise ValueError(f"the tokenizer of {name} has no chat template: use --template plain or alpaca")
    return tokenizer


def open_tokenizer(name: str) -> "PreTrainedTokenizerBase":
    """AutoTokenizer, with a ValueError instead of the hub's own errors."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"--tokenizer {name}: cannot be loaded ({reason})") from error
