"""Prompts that ask a model for the reason of a label that it is given: rationales for preference pairs, written by any local model.

The label of such a row names what the prompt argues for, beside the gold label and the question it is about; whoever samples the rows
(`collect`) keeps it, and the pair builders find there which pair a rationale belongs to.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from openrlhf_ext.tasks.labels import LABEL_TASKS, load_spec
from openrlhf_ext.tasks.rows import Row

if TYPE_CHECKING:
    from openrlhf_ext.data.prompts import Problem

WHICH = ("gold", "wrong", "both", "all")
_REQUEST = "The answer is: {label}. Say in one or two sentences why, without naming any other answer."


def rationalise_rows(
    task: str, problems: Sequence[Problem], which: str, render: Callable[[str], str], seed: int = 42
) -> Iterator[Row]:
    """Rows {"input", "label", "datasource"}: one per problem and label that is argued for. Raises ValueError for another task."""
    if task not in LABEL_TASKS:
        raise ValueError(f"--rationalise goes with a label task ({', '.join(LABEL_TASKS)}), not with {task}")
    labels = load_spec(task).labels
    for number, problem in enumerate(problems):
        gold = str(problem.label["label"])
        rng = random.Random(f"rationalise {seed} {number}")
        wrong = [label for label in labels if label != gold]
        argued = {"gold": [gold], "wrong": [rng.choice(wrong)], "both": [gold, rng.choice(wrong)], "all": list(labels)}
        for label in argued[which]:
            about = problem.label | {
                "argued": label,
                "question": render(problem.question),
                "problem": f"{task}_{number}",
            }
            question = f"{problem.question.rstrip()}\n{_REQUEST.format(label=label)}"
            yield {"input": render(question), "label": json.dumps(about, ensure_ascii=False), "datasource": task}
