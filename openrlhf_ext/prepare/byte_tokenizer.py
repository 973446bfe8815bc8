"""A tokenizer without loss for any text: every byte of its UTF-8 form is a token. For small models that see every part of a run at work."""

from typing import TYPE_CHECKING

from openrlhf_ext.prepare.word_tokenizer import EOS, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def byte_level_tokenizer(max_length: int = 1024) -> "PreTrainedTokenizerFast":
    """258 tokens: <pad>, <eos> and 256 bytes; no chat template, no token added by itself."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import AddedToken, PreTrainedTokenizerFast

    letters = sorted(ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([PAD, EOS, *letters])}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteDecoder()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=AddedToken(EOS, lstrip=True, special=True, normalized=False),  # as in word_tokenizer
        pad_token=PAD,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
