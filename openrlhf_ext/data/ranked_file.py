"""The RLLR project's ranked pairs {"instruction", "input", "output": [chosen, rejected]}, checked row by row.

Its own loader took a text in the place of the list for a pair of its first two characters; here every row is checked for what its kind
of pair promises, and a file with a bad row is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from openrlhf_ext.data.label_pairs import label_pair_faults
from openrlhf_ext.data.labels import alpaca_question, split_answer
from openrlhf_ext.data.made_pairs import Meta, Pair
from openrlhf_ext.data.rationale_pairs import rationale_pair_faults
from openrlhf_ext.tasks.labels import LabelSpec
from openrlhf_ext.tasks.rows import Row, missing_text, read_rows


def holds_ranked_pairs(path: Path) -> bool:
    """Whether the first row is of that form. Raises ValueError for a file without rows."""
    return "instruction" in read_rows(Path(path), lambda row: [])[0]


def read_ranked_pairs(kind: str, spec: LabelSpec, path: Path, render: Callable[[str], str]) -> list[Pair]:
    """All pairs of a file; `label` is the gold label where a row has it. Raises ValueError with `file:line: problem` lines."""
    pairs: list[Pair] = []

    def check(row: Row) -> list[str]:
        problems = missing_text(row, "instruction")
        output = row.get("output")
        if not isinstance(output, list) or len(output) != 2 or not all(isinstance(text, str) for text in output):
            found = f"{len(output)} items" if isinstance(output, list) else type(output).__name__
            return [*problems, f"output: expected a list of two texts [chosen, rejected], found {found}"]
        chosen, rejected = (str(text) for text in output)
        gold = None
        if "label" in row:
            gold = spec.label_of(row["label"])
            if gold is None:
                problems.append(f"label: {row['label']!r} is none of {', '.join(spec.labels)}")
        faults = (
            label_pair_faults(chosen, rejected, spec, gold)
            if kind == "label"
            else rationale_pair_faults(chosen, rejected, spec)
        )
        problems += [f"output: {fault}" for fault in faults]
        if not problems:
            meta: Meta = {"kind": kind, "label": str(split_answer(chosen, spec)[1])}
            if kind == "label":
                meta["rejected_label"] = str(split_answer(rejected, spec)[1])
            pairs.append({"prompt": render(alpaca_question(row)), "chosen": chosen, "rejected": rejected, "meta": meta})
        return problems

    read_rows(Path(path), check)
    return pairs
