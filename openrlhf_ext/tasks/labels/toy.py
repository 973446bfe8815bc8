"""The synthetic label task: the one thing that a line names decides the label, and a rationale is good if it names that word.

    What kind of thing?
    the old soup under there       ->   The word is soup.
                                        Label: food

Label and quality of the rationale are two independent facts about an answer, both known exactly: what a reward that sees only one of
them does to the other can be measured.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

WORDS: dict[str, tuple[str, ...]] = {
    "animal": ("dog", "cat", "cow", "fox", "hen", "owl", "rat", "bee"),
    "colour": ("red", "blue", "green", "pink", "grey", "white", "black", "brown"),
    "food": ("soup", "bread", "rice", "cake", "jam", "egg", "cheese", "bean"),
    "tool": ("hammer", "saw", "drill", "rake", "axe", "spade", "file", "pliers"),
    "place": ("town", "lake", "hill", "port", "farm", "cave", "road", "island"),
    "plant": ("oak", "rose", "fern", "moss", "ivy", "elm", "reed", "thistle"),
}
FILLERS = (
    "and",
    "also",
    "big",
    "here",
    "near",
    "new",
    "now",
    "old",
    "over",
    "small",
    "the",
    "then",
    "there",
    "under",
    "very",
    "with",
)
PIECES = (
    "What kind of thing?\n",
    "The word is",
    ".\nLabel: ",
    "Label: ",
    *(f" {word}" for words in (*WORDS.values(), FILLERS) for word in words),
    *(word for words in (*WORDS.values(), FILLERS) for word in words),
    *WORDS,
)
"""What a word-level tokenizer for this task holds as one token."""


@dataclass(frozen=True)
class ToyItem:
    """``words``: the line; ``word``: the thing in it; ``label``: its kind."""

    words: str
    word: str
    label: str


def make_items(count: int, *, labels: int, length: int, rng: random.Random) -> list[ToyItem]:
    """Different lines of ``length`` words each, labels in equal shares. Raises ValueError where there are not so many."""
    if not 2 <= labels <= len(WORDS):
        raise ValueError(f"{labels} labels: choose 2 to {len(WORDS)}")
    if not 2 <= length <= len(FILLERS) + 1:
        raise ValueError(f"{length} words per line: choose 2 (or there is no other word to name) to {len(FILLERS) + 1}")
    kinds = list(WORDS)[:labels]
    found: dict[str, ToyItem] = {}
    tries = 0
    while len(found) < count:
        tries += 1
        if tries > 20 * count + 1000:
            raise ValueError(
                f"only {len(found)} different lines of {length} words were found, {count} are wanted: use longer lines"
            )
        kind = kinds[len(found) % labels]
        word = rng.choice(WORDS[kind])
        line = rng.sample(FILLERS, length - 1)
        line.insert(rng.randrange(length), word)
        item = ToyItem(" ".join(line), word, kind)
        found.setdefault(item.words, item)
    items = list(found.values())
    rng.shuffle(items)
    return items


def rationale(item: ToyItem, good: bool, rng: random.Random) -> str:
    """A rationale that names the thing; or a bad one: half of them name another word of the line, half a thing that is not in it."""
    things = rng.random() < 0.5
    others = [word for words in WORDS.values() for word in words] if things else item.words.split()
    others = [word for word in others if word != item.word]
    return f"The word is {item.word if good else rng.choice(others)}."


def rationale_quality(response: str, word: str) -> float:
    """1 if the first sentence is `The word is <word>.`, else 0."""
    found = re.match(r"\s*the word is (\w+)\.", response, re.IGNORECASE)
    return float(found is not None and found.group(1).lower() == word.lower())
