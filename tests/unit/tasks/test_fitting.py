import json

from openrlhf_ext.tasks import TASKS, make_task
from openrlhf_ext.tasks.fitting import fitting_tasks, other_task

PUZZLE = json.dumps({"numbers": [4, 6], "target": 24})
NUMBER = {"answer": "18"}


def test_labels_tell_their_task():
    assert fitting_tasks([PUZZLE]) == ["game24"]
    assert fitting_tasks([NUMBER]) == [
        "gsm8k",
        "svamp",
        "mawps",
        "math",
        "chain",
        "gsm8k-program",
        "svamp-program",
    ]
    assert fitting_tasks([NUMBER, PUZZLE]) == fitting_tasks([]) == fitting_tasks(["nonsense", "{}"]) == []


def test_the_rows_source_decides_among_tasks_that_fit_and_nothing_else():
    assert fitting_tasks([NUMBER], ["stage_1", "chain", "chain"]) == ["chain"]
    assert fitting_tasks([PUZZLE], ["chain"]) == ["game24"]


def test_the_fix_names_one_task_several_or_what_is_wanted():
    task = make_task({"name": "math"})
    assert other_task(task, [PUZZLE]) == "--task game24"
    assert other_task(make_task({"name": "game24"}), [NUMBER]).endswith(
        "gsm8k, svamp, mawps, math, chain, gsm8k-program, svamp-program"
    )
    assert other_task(task, ["{}"]) == "labels of the task math, as prepare writes them"


def test_label_tasks_are_told_by_their_sets():
    fits = fitting_tasks([{"label": "entailment"}, {"label": "contradiction"}, {"label": "neutral"}])
    assert fits and set(fits) < set(TASKS) and "mnli" in fits and "sst2" not in fits
