"""A small word-level tokenizer without loss: decode(encode(text)) == text for every ASCII text.

Integers of up to `atomic_digits` digits are one token each, longer digit runs are cut from the left, given multi-character
pieces are one token, and every other printable ASCII character is a token of its own.
"""

import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

EOS, PAD, UNKNOWN = "<eos>", "<pad>", "<unk>"
MAX_ATOMIC_DIGITS = 3


def vocabulary(pieces: Sequence[str], atomic_digits: int) -> list[str]:
    """Tokens in id order: specials, integers below 10 ** atomic_digits, pieces, single characters."""
    if not 1 <= atomic_digits <= MAX_ATOMIC_DIGITS:
        raise ValueError(f"atomic_digits={atomic_digits}: choose 1 (single digits) to {MAX_ATOMIC_DIGITS}")
    integers = [str(number) for number in range(10**atomic_digits)]
    words = [PAD, EOS, UNKNOWN, *integers, *sorted(pieces), *string.printable]
    return list(dict.fromkeys(words))


def word_level_tokenizer(
    pieces: Sequence[str], atomic_digits: int = 3, max_length: int = 1024
) -> "PreTrainedTokenizerFast":
    """The tokenizer with <eos>, <pad> and <unk>; it has no chat template and adds no token by itself."""
    import re

    from tokenizers import Regex, Tokenizer
    from tokenizers.decoders import Fuse
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import AddedToken, PreTrainedTokenizerFast

    vocab = {word: index for index, word in enumerate(vocabulary(pieces, atomic_digits))}
    integer = "[0-9]" if atomic_digits == 1 else f"[1-9][0-9]{{0,{atomic_digits - 1}}}|0"
    longest_first = sorted(pieces, key=len, reverse=True)
    pattern = "|".join([integer, *(re.escape(piece) for piece in longest_first), r"[\s\S]"])
    tokenizer = Tokenizer(WordLevel(vocab, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        # OpenRLHF's SFT dataset writes " " before the EOS (datasets/sft_dataset.py, 0.11.2); the answer must not learn that space.
        eos_token=AddedToken(EOS, lstrip=True, special=True, normalized=False),
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
