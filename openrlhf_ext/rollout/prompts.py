"""The stream of training prompts: an endless, seeded order over the data whose position is two integers.

Upstream's loader is re-iterated per episode and leaves a short batch at each end, which its buffers then drop. Here episodes join
seamlessly, every batch is full, and the order is a pure function of (seed, episode): a resumed run consumes exactly the problem ids
of an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Prompt:
    """One training problem: the rendered ``text``, its ``label`` (JSON), its ``datasource`` and its row number ``problem_id``."""

    problem_id: int
    text: str
    label: str
    datasource: str


class Stream(Protocol):
    """Endless prompts whose position is a few plain values."""

    def __len__(self) -> int: ...

    def take(self, count: int) -> list[Prompt]:
        """The next ``count`` prompts; moves the position."""
        ...

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


class PromptStream(Generic[T]):
    """Endless prompts (or other rows) in a seeded order. ``shuffle=False`` keeps the file's order."""

    def __init__(self, prompts: list[T], seed: int, shuffle: bool = True) -> None:
        if not prompts:
            raise ValueError("no prompts: the training data is empty")
        self.prompts, self.seed, self.shuffle = prompts, seed, shuffle
        self.episode = 0
        self.position = 0

    def __len__(self) -> int:
        """Prompts in one episode."""
        return len(self.prompts)

    def take(self, count: int) -> list[T]:
        """The next ``count`` prompts; moves the position."""
        order = self._stream()
        return [next(order) for _ in range(count)]

    def _stream(self) -> Iterator[T]:
        order = self._order(self.episode)
        while True:
            if self.position == len(order):
                self.episode, self.position = self.episode + 1, 0
                order = self._order(self.episode)
            self.position += 1
            yield self.prompts[order[self.position - 1]]

    def _order(self, episode: int) -> list[int]:
        if not self.shuffle:
            return list(range(len(self.prompts)))
        import torch

        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + episode)
        return torch.randperm(len(self.prompts), generator=generator).tolist()

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed, "episode": self.episode, "position": self.position, "size": len(self.prompts)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["size"] != len(self.prompts) or state["seed"] != self.seed:
            raise ValueError(
                f"the checkpoint was written over {state['size']} prompts with seed {state['seed']}, this run has {len(self.prompts)} "
                f"with seed {self.seed}: resume with the same data and seed"
            )
        self.episode, self.position = state["episode"], state["position"]
