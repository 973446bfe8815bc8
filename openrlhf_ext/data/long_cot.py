"""24-point search traces -> supervised records {"input", "output", "nodes"}.

Each case is searched `searches` times with its digits reshuffled; each search is pruned independently to every number of nodes.
Every case has its own generator, so the records do not depend on how cases are spread over processes.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

from openrlhf_ext.tasks.game24 import traces


class TraceRecord(TypedDict):
    input: str
    output: str
    nodes: int


def case_records(
    numbers: Sequence[int], index: int, *, target: int, searches: int, nodes: Sequence[int], seed: int
) -> list[TraceRecord]:
    """The v3 records of one case; `index` is its place in the puzzle file."""
    rng = random.Random(f"game24-traces {seed} {index}")
    records: list[TraceRecord] = []
    for _ in range(searches):
        cards = list(numbers)
        rng.shuffle(cards)
        tree = traces.search(cards, rng, target)
        prompt = traces.input_text(tree) + "\n"
        for threshold in nodes:
            kept = traces.prune(tree, threshold, rng)
            records.append({"input": prompt, "output": traces.render(tree, kept), "nodes": threshold})
    return records


def without_duplicates(records: Iterable[TraceRecord]) -> Iterator[TraceRecord]:
    """Drops repeated records of the same threshold; equal texts of different thresholds stay."""
    seen: set[tuple[str, str, int]] = set()
    for record in records:
        key = (record["input"], record["output"], record["nodes"])
        if key not in seen:
            seen.add(key)
            yield record


def hold_out_rows(records: Sequence[TraceRecord], share: float) -> tuple[list[TraceRecord], list[TraceRecord]]:
    """(training, held-out): the first `share` of shuffled records. Other traces of the same puzzles stay in training."""
    held_out = max(1, round(share * len(records)))
    return list(records[held_out:]), list(records[:held_out])


def hold_out_puzzles(
    records: Sequence[TraceRecord], share: float, seed: int
) -> tuple[list[TraceRecord], list[TraceRecord]]:
    """(training, held-out): all records of `share` of the puzzles, chosen by the seed, are held out.

    A puzzle is its multiset of numbers: neither another search of it nor another order of its digits stays in training.
    Raises ValueError for fewer than two puzzles.
    """
    puzzles = sorted({_puzzle(record) for record in records})
    if len(puzzles) < 2:
        raise ValueError(f"{len(puzzles)} puzzle: give at least 2, one to train on and one to hold out")
    chosen = set(random.Random(f"held-out puzzles {seed}").sample(puzzles, max(1, round(share * len(puzzles)))))
    held_out = [record for record in records if _puzzle(record) in chosen]
    return [record for record in records if _puzzle(record) not in chosen], held_out


def _puzzle(record: TraceRecord) -> tuple[int, ...]:
    return tuple(sorted(int(word) for word in record["input"].split()))
