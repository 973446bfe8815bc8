"""What is asked and what is right. To add a task: write a class like the ones named here and add it to TASKS."""

from collections.abc import Callable, Mapping

from openrlhf_ext.tasks.base import LabelError, Task, Verdict
from openrlhf_ext.tasks.game24.task import Game24
from openrlhf_ext.tasks.household.task import Household
from openrlhf_ext.tasks.labels import LABEL_TASKS, LabelLine, LabelToy
from openrlhf_ext.tasks.marked_label import MarkedLabel
from openrlhf_ext.tasks.math_word import WordProblem
from openrlhf_ext.tasks.options import did_you_mean
from openrlhf_ext.tasks.program import Program

__all__ = ["TASKS", "LabelError", "Task", "Verdict", "make_task"]

TASKS: dict[str, Callable[[str, Mapping[str, object]], Task]] = {
    "game24": Game24,
    "gsm8k": WordProblem,
    "svamp": WordProblem,
    "mawps": WordProblem,
    "math": WordProblem,
    "chain": WordProblem,
    "gsm8k-program": Program,
    "svamp-program": Program,
    "mnli-r3": MarkedLabel,
    "snli-r3": MarkedLabel,
    "race": MarkedLabel,
    "boardgameqa": MarkedLabel,
    **dict.fromkeys(LABEL_TASKS, LabelLine),  # one file each in tasks/labels
    "label-toy": LabelToy,
    "household": Household,  # several turns: tasks/environment.py
}


def make_task(options: Mapping[str, object]) -> Task:
    """The task of a `task:` section such as {"name": "game24", "checker": "strict"}. Raises ValueError with the fix."""
    name = options.get("name")
    if not isinstance(name, str):
        raise ValueError(f"task.name={name!r}: name a task, one of {', '.join(TASKS)}")
    if name not in TASKS:
        raise ValueError(f"task.name={name!r}: no such task; {did_you_mean(name, list(TASKS))}")
    return TASKS[name](name, options)
