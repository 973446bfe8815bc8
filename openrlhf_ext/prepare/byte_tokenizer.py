"""A tokenizer without loss for any text: every byte of its UTF-8 form is a token, frequent byte sequences too where it learns them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from openrlhf_ext.prepare.word_tokenizer import EOS, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def byte_level_tokenizer(
    max_length: int = 1024, learn_from: Iterable[str] | None = None, vocabulary: int = 1000
) -> "PreTrainedTokenizerFast":
    """258 tokens: <pad>, <eos> and 256 bytes; with texts to ``learn_from`` byte-pair merges within words, up to ``vocabulary`` tokens.

    No chat template, no token added by itself. The same texts in the same order give the same tokenizer.
    """
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer
    from transformers import AddedToken, PreTrainedTokenizerFast

    letters = sorted(ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([PAD, EOS, *letters])}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=learn_from is not None)
    tokenizer.decoder = ByteDecoder()
    if learn_from is not None:
        trainer = BpeTrainer(
            vocab_size=vocabulary, special_tokens=[PAD, EOS], initial_alphabet=letters, show_progress=False
        )
        tokenizer.train_from_iterator(learn_from, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=AddedToken(EOS, lstrip=True, special=True, normalized=False),  # as in word_tokenizer
        pad_token=PAD,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
