"""Makes the synthetic label task: lines that name one thing, whose kind is the label, and rationales whose quality is known.

train.jsonl, test.jsonl      {"id", "words", "word", "label"}: problems, for prepare prompts and evaluate
sft.jsonl, sft_rationale.jsonl   the same training problems with the label noise, without and with a rationale (half of them name a wrong word)
rationales.jsonl, rationales_test.jsonl   a good and a bad rationale ("score" 1 and 0) for every label of every problem, for prepare pairs
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from openrlhf_ext.prepare.arguments import at_least
from openrlhf_ext.tasks.labels.toy import WORDS, ToyItem, make_items, rationale
from openrlhf_ext.tasks.rows import Row, write_jsonl

HELP = "a synthetic label task with known ground truth"
EXAMPLE = "--out data/label_toy --labels 3 --noise 0.15"
GOOD_SHARE, NOISY_WORDS = 0.5, 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--labels", type=int, default=3, choices=range(2, len(WORDS) + 1), help="default 3")
    parser.add_argument(
        "--noise", type=float, default=0.15, help="share of wrong labels in the supervised rows (default 0.15)"
    )
    parser.add_argument("--length", type=at_least(2), default=5, help="words per line (default 5)")
    parser.add_argument("--train", type=at_least(1), default=4000, help="training problems (default 4000)")
    parser.add_argument("--test", type=at_least(1), default=600, help="held-out problems (default 600)")
    parser.add_argument("--seed", type=int, default=42)


def run(args: argparse.Namespace) -> None:
    if not 0 <= args.noise < 1:
        raise ValueError(f"--noise {args.noise:g}: a share from 0 to below 1")
    counts = build_label_toy(args.out, args.labels, args.noise, args.length, args.train, args.test, args.seed)
    for name, count in counts.items():
        print(f"{args.out / name}: {count} rows")


def build_label_toy(
    out: Path, labels: int = 3, noise: float = 0.15, length: int = 5, train: int = 4000, test: int = 600, seed: int = 42
) -> dict[str, int]:
    """Writes the files to OUT; returns rows per file. Training and held-out problems share no line."""
    items = make_items(train + test, labels=labels, length=length, rng=random.Random(seed))
    parts = {"train": items[:train], "test": items[train:]}
    kinds = list(WORDS)[:labels]
    rng = random.Random(f"label-toy {seed}")
    supervised = list(_supervised(parts["train"], kinds, noise, rng))
    files: dict[str, list[Row]] = {
        f"{name}.jsonl": [_row(i, name, item) for i, item in enumerate(part)] for name, part in parts.items()
    }
    files["sft.jsonl"] = [{key: value for key, value in row.items() if key != "rationale"} for row in supervised]
    files["sft_rationale.jsonl"] = supervised
    files["rationales.jsonl"] = list(_rationales(parts["train"], "train", kinds, rng))
    files["rationales_test.jsonl"] = list(_rationales(parts["test"], "test", kinds, rng))
    return {name: write_jsonl(Path(out) / name, rows) for name, rows in files.items()}


def _row(number: int, split: str, item: ToyItem) -> Row:
    return {"id": f"{split}_{number}", "words": item.words, "word": item.word, "label": item.label}


def _supervised(items: Sequence[ToyItem], kinds: Sequence[str], noise: float, rng: random.Random) -> Iterator[Row]:
    """Exactly the given share has a wrong label, and half of the rationales are bad, independently of each other."""
    wrong = {}
    for kind in kinds:
        for word in rng.sample(WORDS[kind], round(NOISY_WORDS * len(WORDS[kind]))):
            wrong[word] = rng.choice([other for other in kinds if other != kind])
    order = rng.sample(range(len(items)), len(items))
    order.sort(key=lambda number: items[number].word not in wrong)  # the noisy words first, else any
    noisy = set(order[: round(noise * len(items))])
    good = set(rng.sample(range(len(items)), round(GOOD_SHARE * len(items))))
    for number, item in enumerate(items):
        other = wrong.get(item.word) or rng.choice([kind for kind in kinds if kind != item.label])
        label = other if number in noisy else item.label
        yield _row(number, "train", item) | {"label": label, "rationale": rationale(item, number in good, rng)}


def _rationales(items: Sequence[ToyItem], split: str, kinds: Sequence[str], rng: random.Random) -> Iterator[Row]:
    for number, item in enumerate(items):
        for argued in kinds:
            for good in (True, False):
                text = rationale(item, good, rng)
                yield _row(number, split, item) | {"argued": argued, "rationale": text, "score": float(good)}
