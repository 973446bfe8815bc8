"""One place where a response meets its task: what rewards a rollout also grades an evaluation."""

from __future__ import annotations

import traceback

from openrlhf_ext.tasks.base import Task, Verdict


def grade_response(task: Task, text: str, label: str) -> tuple[Verdict, str | None]:
    """The verdict on ``text`` and, where the verifier itself failed, its traceback (then the verdict is a zero).

    Verifiers do not raise on model output. If one does all the same, the run must see it: the error travels with the sample and is
    counted, and `task.on_error` decides what happens to the group.
    """
    try:
        return task.verify(text, label), None
    except Exception:  # any defect of a verifier is data here, not a crash of the engine
        zero = Verdict(reward=0.0, correct=False, parsed=False, metrics=dict.fromkeys(task.metric_keys, 0.0))
        return zero, traceback.format_exc(limit=4)


def wrong_lines(task: Task, text: str, label: str) -> list[int] | None:
    """0-based numbers of the lines that the task's checker calls wrong, for people to read; None where the task judges no lines."""
    mark = getattr(task, "wrong_lines", None)
    return None if mark is None else list(mark(text, label))
