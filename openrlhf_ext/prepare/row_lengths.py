"""Start states measured in tokens: rows without room to generate are left out and named, never cut."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openrlhf_ext.tasks.rows import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 1000


@dataclass(frozen=True)
class Limits:
    """Most tokens of input, completion and end token together, and of the input alone; None = no limit."""

    tokens: int | None = None
    prompt_tokens: int | None = None

    def __bool__(self) -> bool:
        return self.tokens is not None or self.prompt_tokens is not None

    def __str__(self) -> str:
        named = (("--max-tokens", self.tokens), ("--max-prompt-tokens", self.prompt_tokens))
        return " ".join(f"{name} {limit}" for name, limit in named if limit is not None)

    def within(self, rows: list[Row], tokenizer: "PreTrainedTokenizerBase | None") -> tuple[list[Row], list[str]]:
        """The rows that fit, and a line about each of the others."""
        if tokenizer is None or not self:
            return rows, []
        texts = [str(row[key]) for row in rows for key in ("input", "completion")]
        counts = [
            len(ids)
            for batch in batches(texts, "measuring")
            for ids in tokenizer(batch, add_special_tokens=False)["input_ids"]
        ]
        kept, too_long = [], []
        for row, prompt, completion in zip(rows, counts[::2], counts[1::2], strict=True):
            fault = self._fault(prompt, completion + 1)
            if fault:
                too_long.append(f"{row['id']} stage {row['stage']} ({fault})")
            else:
                kept.append(row)
        return kept, too_long

    def _fault(self, prompt: int, needs: int) -> str:
        if self.prompt_tokens is not None and prompt > self.prompt_tokens:
            return f"prompt {prompt}, at most {self.prompt_tokens}"
        if self.tokens is not None and prompt + needs > self.tokens:
            return f"prompt {prompt}, room {max(0, self.tokens - prompt)}, needs {needs}"
        return ""


def batches(texts: Sequence[str], doing: str) -> Iterator[list[str]]:
    """Texts a thousand at a time; says on a terminal how far it is."""
    for at in range(0, len(texts), BATCH):
        yield list(texts[at : at + BATCH])
        done = min(at + BATCH, len(texts))
        if sys.stderr.isatty():
            end = "\n" if done == len(texts) else ""
            print(f"\r{doing}: {100 * done // len(texts)}%", end=end, file=sys.stderr, flush=True)
