"""The synthetic label task: the kind of the marked word decides the label, and a rationale is good if it names that word.

    Kind of the word after *?
    dog red * soup hammer          ->   The word is soup.
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
MARK = "*"
PIECES = (
    "Kind of the word after *?\n",
    " *",
    "The word is",
    ".\nLabel: ",
    "Label: ",
    *(f" {word}" for words in WORDS.values() for word in words),
    *(word for words in WORDS.values() for word in words),
    *WORDS,
)
"""What a word-level tokenizer for this task holds as one token."""


@dataclass(frozen=True)
class ToyItem:
    """``words``: the line, one word marked; ``word``: the marked one; ``label``: its kind."""

    words: str
    word: str
    label: str


def make_items(count: int, *, labels: int, length: int, rng: random.Random) -> list[ToyItem]:
    """Different lines of ``length`` words each, labels in equal shares. Raises ValueError where there are not so many."""
    if not 2 <= labels <= len(WORDS):
        raise ValueError(f"{labels} labels: choose 2 to {len(WORDS)}")
    if length < 2:
        raise ValueError(f"{length} words per line: at least 2, or there is no other word to name")
    kinds = list(WORDS)[:labels]
    words = [word for kind in kinds for word in WORDS[kind]]
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
        line = rng.sample([other for other in words if other != word], length - 1)
        line.insert(rng.randrange(length), f"{MARK} {word}")
        item = ToyItem(" ".join(line), word, kind)
        found.setdefault(item.words, item)
    items = list(found.values())
    rng.shuffle(items)
    return items


def rationale(item: ToyItem, good: bool, rng: random.Random) -> str:
    """A rationale that names the marked word, or another word of the line."""
    others = [word for word in item.words.split() if word not in (MARK, item.word)]
    return f"The word is {item.word if good else rng.choice(others)}."


def rationale_quality(response: str, word: str) -> float:
    """1 if the first sentence is `The word is <word>.`, else 0."""
    found = re.match(r"\s*the word is (\w+)\.", response, re.IGNORECASE)
    return float(found is not None and found.group(1).lower() == word.lower())
