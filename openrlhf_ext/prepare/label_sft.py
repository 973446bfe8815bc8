"""Supervised rows of a label task, with and without the rationales of its file: each output ends with the label line."""

from pathlib import Path

from openrlhf_ext.data.labels import answer_text, read_label_examples
from openrlhf_ext.data.prompts import render
from openrlhf_ext.prepare.tokenizers import load_tokenizer
from openrlhf_ext.tasks.rows import Row, write_jsonl

RATIONALES = ("keep", "drop", "only")


def build_label_sft(
    task: str,
    source: Path,
    out: Path,
    rationales: str = "keep",
    template: str = "plain",
    tokenizer: str | None = None,
    system: str = "",
) -> list[Row]:
    """Writes and returns {"input", "output"}; `rationales`: before the label where a row has one, never, or only such rows."""
    loaded = load_tokenizer(tokenizer, template)
    examples = read_label_examples(task, Path(source))
    rows: list[Row] = [
        {
            "input": render(example.question, template, loaded, system),
            "output": answer_text(None if rationales == "drop" else example.rationale, example.label),
        }
        for example in examples
        if rationales != "only" or example.rationale
    ]
    if not rows:
        raise ValueError(
            f"{source}: none of its {len(examples)} rows has a rationale, so --rationales only leaves nothing"
        )
    write_jsonl(Path(out), rows)
    return rows
