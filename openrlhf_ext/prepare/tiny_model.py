"""Makes a small untrained Llama-shaped model (float32) with a word-level tokenizer for one task, or one of bytes or learned
byte pairs for any text."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from openrlhf_ext.checkpoint import follow_umask
from openrlhf_ext.prepare.arguments import at_least
from openrlhf_ext.prepare.byte_tokenizer import byte_level_tokenizer
from openrlhf_ext.prepare.word_tokenizer import word_level_tokenizer
from openrlhf_ext.tasks.chain import PIECES as CHAIN_PIECES
from openrlhf_ext.tasks.game24.tokenizer import PIECES as GAME24_PIECES
from openrlhf_ext.tasks.household.vocabulary import CHAT_TEMPLATE
from openrlhf_ext.tasks.household.vocabulary import PIECES as HOUSEHOLD_PIECES
from openrlhf_ext.tasks.labels.toy import PIECES as LABEL_TOY_PIECES
from openrlhf_ext.tasks.rows import Row, read_rows

HELP = "a small untrained model for laptops and tests"
EXAMPLE = "--out models/tiny --layers 4 --hidden 192 --heads 6"
PIECES = {"game24": GAME24_PIECES, "chain": CHAIN_PIECES, "label-toy": LABEL_TOY_PIECES, "household": HOUSEHOLD_PIECES}
ANY_TEXT = "text"
ATOMIC_DIGITS = {"game24": 3, "chain": 1, "label-toy": 1, "household": 1}
CHAT_TEMPLATES = {"household": CHAT_TEMPLATE}
MIN_HEAD_SIZE = 32  # vLLM's CPU attention fails on smaller heads at the first generation.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--task",
        choices=(*PIECES, ANY_TEXT),
        default="game24",
        help=f"whose texts the tokenizer is made for; {ANY_TEXT}: any, a token per byte (default game24)",
    )
    parser.add_argument(
        "--learn-from",
        type=Path,
        nargs="+",
        metavar="FILE",
        help=f"with --task {ANY_TEXT}: JSON lines whose texts the tokenizer learns frequent pieces of words from",
    )
    parser.add_argument(
        "--vocabulary", type=at_least(259), default=1000, help="tokens at most, with --learn-from (default 1000)"
    )
    parser.add_argument("--layers", type=at_least(1), default=4)
    parser.add_argument("--hidden", type=at_least(1), default=192)
    parser.add_argument("--heads", type=at_least(1), default=6, help="hidden / heads must be a multiple of 32")
    parser.add_argument("--kv-heads", type=at_least(1), help="default: as many as heads")
    parser.add_argument("--intermediate", type=at_least(1), help="default: 8/3 of hidden")
    parser.add_argument("--context", type=at_least(16), default=1024, help="positions (default 1024)")
    parser.add_argument("--untied", action="store_true", help="an output matrix of its own")
    parser.add_argument(
        "--atomic-digits", type=int, choices=(1, 2, 3), help="integers of up to this many digits are one token"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is already there")


def run(args: argparse.Namespace) -> None:
    parameters = build_tiny_model(
        args.out,
        task=args.task,
        layers=args.layers,
        hidden=args.hidden,
        heads=args.heads,
        kv_heads=args.kv_heads,
        intermediate=args.intermediate,
        context=args.context,
        tie_embeddings=not args.untied,
        atomic_digits=args.atomic_digits,
        seed=args.seed,
        overwrite=args.overwrite,
        learn_from=args.learn_from,
        vocabulary=args.vocabulary,
    )
    print(f"{args.out}: {parameters:,} parameters")


def build_tiny_model(
    out: Path,
    task: str = "game24",
    layers: int = 4,
    hidden: int = 192,
    heads: int = 6,
    kv_heads: int | None = None,
    intermediate: int | None = None,
    context: int = 1024,
    tie_embeddings: bool = True,
    atomic_digits: int | None = None,
    seed: int = 42,
    overwrite: bool = False,
    learn_from: Sequence[Path] | None = None,
    vocabulary: int = 1000,
) -> int:
    """Writes a float32 checkpoint and its tokenizer to OUT; returns the number of parameters.

    `atomic_digits`: integers of up to this many digits are one token (default 3 for game24, 1 for chain; not for text).
    `intermediate` defaults to 8/3 of hidden, rounded up to a multiple of 32.
    """
    if task not in (*PIECES, ANY_TEXT):
        raise ValueError(f"task {task!r}: tiny models exist for {', '.join(PIECES)} and {ANY_TEXT}")
    if task == ANY_TEXT and atomic_digits is not None:
        raise ValueError(f"--atomic-digits {atomic_digits}: with --task {ANY_TEXT} every byte is a token; leave it out")
    if task != ANY_TEXT and learn_from:
        raise ValueError(f"--learn-from: the tokenizer of {task} is fixed; leave it out, or --task {ANY_TEXT}")
    texts = list(_texts(learn_from)) if learn_from else None
    kv_heads = heads if kv_heads is None else kv_heads
    check_shape(layers, hidden, heads, kv_heads)
    out = Path(out)
    if (out / "config.json").exists() and not overwrite:
        raise ValueError(f"{out} already holds a model: choose another directory or pass --overwrite")

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if task == ANY_TEXT:
        tokenizer = byte_level_tokenizer(context, texts, vocabulary)
    else:
        tokenizer = word_level_tokenizer(PIECES[task], atomic_digits or ATOMIC_DIGITS[task], max_length=context)
        tokenizer.chat_template = CHAT_TEMPLATES.get(task)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=intermediate or -(-hidden * 8 // (3 * 32)) * 32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=tie_embeddings,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).float()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    follow_umask(Path(out))
    return sum(parameter.numel() for parameter in model.parameters())


def _texts(files: Sequence[Path]) -> Iterator[str]:
    """Every text of every row."""
    for file in files:
        for row in read_rows(file, lambda row: [] if _strings(row) else ["no field holds text"]):
            yield from _strings(row)


def _strings(row: Row) -> list[str]:
    return [value for value in row.values() if isinstance(value, str)]


def check_shape(layers: int, hidden: int, heads: int, kv_heads: int) -> None:
    """Raises ValueError for a shape that cannot be built or that the CPU engine cannot serve."""
    if min(layers, hidden, heads, kv_heads) < 1:
        raise ValueError(
            f"layers={layers}, hidden={hidden}, heads={heads}, kv_heads={kv_heads}: all must be at least 1"
        )
    if hidden % heads or heads % kv_heads:
        raise ValueError(f"hidden={hidden} must be a multiple of heads={heads}, and heads of kv_heads={kv_heads}")
    size = hidden // heads
    if size < MIN_HEAD_SIZE or size % MIN_HEAD_SIZE:
        raise ValueError(
            f"head size {size} (hidden {hidden} / heads {heads}): the CPU engine needs a multiple of {MIN_HEAD_SIZE}; "
            f"use at most {max(1, hidden // MIN_HEAD_SIZE)} heads with a hidden size that is {MIN_HEAD_SIZE} times the heads"
        )
