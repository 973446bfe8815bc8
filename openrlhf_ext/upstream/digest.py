"""What was sent to the engines, in a form that both sides can compute and compare.

A tensor's digest is two sums over its bits, one plain and one weighted by position, so a changed, moved or missing
value shows; it is computed where the tensor lies and costs one pass. The order in which tensors arrive is free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 20  # elements widened to int64 at a time: 8 MiB
_PERIOD = 65_521  # weights 1.._PERIOD keep every product below 2**48


class Entry(NamedTuple):
    """One tensor as sent or received."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bits: int
    weighted: int


def entry(name: str, tensor: torch.Tensor) -> Entry:
    """The digest of ``tensor`` (any shape, any dtype of 1, 2, 4 or 8 bytes). Sums are modulo 2**64, as int64 wraps."""
    import torch

    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    words = tensor.detach().contiguous().flatten().view(width)
    weights = torch.arange(_CHUNK, device=words.device)
    total = torch.zeros(2, dtype=torch.int64, device=words.device)
    for start in range(0, words.numel(), _CHUNK):
        chunk = words[start : start + _CHUNK].to(torch.int64)
        total[0] += chunk.sum()
        total[1] += (chunk * ((weights[: chunk.numel()] + start) % _PERIOD + 1)).sum()
    bits, weighted = total.tolist()
    return Entry(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), bits, weighted)


def restored(fields: Sequence[Any]) -> Entry:
    """The entry again after a serialisation that turns tuples into lists."""
    name, dtype, shape, bits, weighted = fields
    return Entry(name, dtype, tuple(shape), bits, weighted)


def differences(sent: Iterable[Entry], received: Sequence[Entry], untouched: Sequence[str] = ()) -> list[str]:
    """What is wrong with a sync; empty when every tensor arrived once and unchanged.

    Args:
        sent: the trainer's parameters by their Hugging Face names; a tied lm_head is one parameter, named once.
        received: what the engine was handed since the last sync.
        untouched: parameters of the engine's own model that no received tensor reached.
    """
    expected = {item.name: item for item in sent}
    counts = Counter(item.name for item in received)
    found = {item.name: item for item in received}
    problems = [f"{name}: never arrived" for name in expected if name not in found]
    problems += [f"{name}: arrived but is no parameter of the trainer" for name in found if name not in expected]
    problems += [f"{name}: arrived {times} times" for name, times in counts.items() if times > 1]
    for name, item in found.items():
        if name in expected and item != expected[name]:
            problems.append(f"{name}: sent {_facts(expected[name])}, arrived {_facts(item)}")
    return problems + [f"{name}: parameter of the engine that nothing was loaded into" for name in untouched]


def _facts(item: Entry) -> str:
    return f"{item.dtype}{list(item.shape)} {item.bits:x}/{item.weighted:x}"
