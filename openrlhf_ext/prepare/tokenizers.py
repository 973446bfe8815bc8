"""Loading the tokenizer that a template needs, with an error that says what to give."""

from typing import TYPE_CHECKING

from openrlhf_ext.data.templates import REFUSED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(name: str | None, template: str) -> "PreTrainedTokenizerBase | None":
    """The tokenizer for `template chat`; None for the others. Raises ValueError where it is missing or has no template."""
    if template in REFUSED:
        raise ValueError(f"--template {template} is not offered: {REFUSED[template]}")
    if template != "chat":
        return None
    if name is None:
        raise ValueError("--template chat needs --tokenizer: a model directory or name whose chat template to use")
    tokenizer = open_tokenizer(name)
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
