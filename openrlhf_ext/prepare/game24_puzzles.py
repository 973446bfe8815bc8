"""`prepare game24-puzzles`: the solvable puzzles as train.jsonl and test.jsonl."""

import json
from pathlib import Path

from openrlhf_ext.prepare.files import write_jsonl
from openrlhf_ext.tasks.game24.puzzles import solvable_puzzles, split_puzzles


def build_puzzles(
    out: Path, numbers: int = 4, max_number: int = 13, target: int = 24, seed: int = 42
) -> dict[str, Path]:
    """Writes OUT/train.jsonl and OUT/test.jsonl with rows {"input", "label", "datasource"}; returns their paths."""
    puzzles = solvable_puzzles(numbers, max_number, target)
    if len(puzzles) < 5:
        raise ValueError(
            f"only {len(puzzles)} solvable puzzles with {numbers} numbers up to {max_number} and target {target}: "
            "raise --max-number or --numbers"
        )
    written = {}
    for split, cases in zip(("train", "test"), split_puzzles(puzzles, seed), strict=True):
        rows = (
            {
                "input": " ".join(map(str, case)) + "\n",
                "label": json.dumps({"numbers": case, "target": target}),
                "datasource": "game24",
            }
            for case in cases
        )
        written[split] = Path(out) / f"{split}.jsonl"
        write_jsonl(written[split], rows)
    return written
