"""Which tasks could read given labels: the fix for data that was given to another task's verifier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from openrlhf_ext.tasks import TASKS, make_task
from openrlhf_ext.tasks.base import Label, LabelError, Task

LABELS_TRIED = 20


def fitting_tasks(labels: Sequence[Label], sources: Iterable[object] = ()) -> list[str]:
    """Names of the tasks that read all the labels (the first 20 are tried).

    ``sources`` are the rows' ``datasource`` values: where one of them names a task that fits, it is the only answer.
    """
    tried = labels[:LABELS_TRIED]
    fits = [name for name in TASKS if tried and _reads(name, tried)]
    named = [name for name in fits if name in set(map(str, sources))]
    return named or fits


def other_task(task: Task, labels: Sequence[Label], sources: Iterable[object] = ()) -> str:
    """The fix for labels that ``task`` cannot read: the task that can, or what its labels should be."""
    fits = fitting_tasks(labels, sources)
    if not fits:
        return f"labels of the task {task.name}, as prepare writes them"
    return f"--task {fits[0]}" if len(fits) == 1 else f"--task with one whose labels look like these: {', '.join(fits)}"


def _reads(name: str, labels: Sequence[Label]) -> bool:
    try:
        task = make_task({"name": name})
    except ValueError:  # it cannot be made without options of its own
        return False
    try:
        for label in labels:
            task.verify("", label)
    except LabelError:
        return False
    return True
