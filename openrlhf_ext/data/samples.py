"""Graded samples of problems, read from whatever holds them: the common ground of RFT selection, pairs and exploration.

A row may be a trajectory, an answer that `evaluate` graded, or plain {"prompt", "response", "reward"}. A line that is no JSON, as a kill in the
middle of a write leaves it, is skipped, named and counted; a whole row with wrong fields is an error.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from openrlhf_ext.data.trajectory import MAX_PROBLEMS, read_trajectories
from openrlhf_ext.tasks import TASKS, make_task
from openrlhf_ext.tasks.base import LabelError, Task
from openrlhf_ext.tasks.rows import skipped
from openrlhf_ext.tasks.steps import through_answer

ANSWERED_IN_WORDS = frozenset({"gsm8k", "svamp", "mawps", "math", "chain"})
"""Tasks whose first answer ends a solution."""
BOASTS = ("I hope it is correct.",)
"""Closing phrases of few-shot prompts, no part of a solution."""


@dataclass(frozen=True)
class Sample:
    """One graded response. `label` is the task's JSON, empty where the row has none; `task` its name, empty where unknown."""

    problem: str | int
    prompt: str
    label: str
    text: str
    correct: bool
    truncated: bool
    task: str
    messages: tuple[Mapping[str, str], ...] = ()
    """The conversation, where the response is an episode of several turns."""


@dataclass(frozen=True)
class Samples:
    """The samples of a file in its order, and the lines that were no JSON, as `file:line`."""

    items: list[Sample]
    torn: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        return skipped(self.torn)


def read_samples(path: Path, task: str = "") -> Samples:
    """All samples. `task` names the task where rows do not. Raises ValueError for wrong fields (at most 20 shown) or an empty file."""
    path = Path(path)
    if path.suffix == ".parquet":
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        return Samples([as_sample(row, task) for row in read_trajectories(path)])
    items: list[Sample] = []
    faults: list[str] = []
    torn: list[str] = []
    for number, row in objects(path):
        where = f"{path}:{number}"
        if row is None:
            torn.append(where)
            continue
        found = sample_faults(row)
        faults += [f"{where}: {fault}" for fault in found]
        if not found:
            items.append(as_sample(row, task))
    if faults:
        more = [f"... and {len(faults) - MAX_PROBLEMS} more problems"] if len(faults) > MAX_PROBLEMS else []
        raise ValueError("\n".join(faults[:MAX_PROBLEMS] + more))
    if not items:
        raise ValueError(f"{path}: no rows" + (f", and {len(torn)} lines that are not JSON" if torn else ""))
    return Samples(items, tuple(torn))


def objects(path: Path) -> Iterable[tuple[int, Mapping[str, object] | None]]:
    """(line number, object) of a jsonl file, None where a line is no JSON object. Blank lines are passed over. ValueError: no file."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield number, row if isinstance(row, dict) else None


def sample_faults(row: Mapping[str, object]) -> list[str]:
    """What keeps a row from being a graded sample, as `field: what`."""
    faults = []
    if not isinstance(row.get("prompt"), str):
        faults.append("prompt: expected text" if "prompt" in row else "prompt: missing")
    if not isinstance(row.get("text", row.get("response")), str):
        faults.append("text: missing; expected the response as `text` or `response`")
    if correctness(row) is None:
        faults.append("scores: missing; expected `scores`, `correct` or `reward`: grade the responses first")
    if not isinstance(row.get("label", ""), (str, Mapping)):
        faults.append("label: expected a JSON text or an object")
    if type(row.get("problem_id", "")) not in (str, int):
        faults.append("problem_id: expected text or a whole number")
    return faults


def correctness(row: Mapping[str, object]) -> bool | None:
    """The stored verdict: `correct`, else `scores` of 1, else a reward of 1 and more; None where there is none."""
    if isinstance(row.get("correct"), bool):
        return bool(row["correct"])
    scores = row.get("scores") if row.get("scores") is not None else row.get("reward")
    return scores >= 1 if isinstance(scores, (int, float)) and not isinstance(scores, bool) else None


def as_sample(row: Mapping[str, object], task: str = "") -> Sample:
    label = row.get("label", "")
    problem = row.get("problem_id", row["prompt"])
    return Sample(
        problem=problem if isinstance(problem, int) else str(problem),
        prompt=str(row["prompt"]),
        label=label if isinstance(label, str) else json.dumps(label, ensure_ascii=False),
        text=str(row.get("text", row.get("response", ""))),
        correct=bool(correctness(row)),
        truncated=bool(row.get("truncated", False)),
        task=task or str(row.get("task", "")),
        messages=tuple(row["messages"]) if isinstance(row.get("messages"), list) else (),  # type: ignore[arg-type]
    )


def by_problem(samples: Iterable[Sample]) -> dict[str | int, list[Sample]]:
    """Siblings together, problems in the order of their first sample; they need not be neighbours in the file."""
    groups: dict[str | int, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.problem, []).append(sample)
    return groups


def graded_at_first_answer(samples: list[Sample]) -> list[Sample]:
    """Every sample without what follows its first answer, with the verdict that belongs to the text."""
    names = {sample.task for sample in samples}
    tasks = {name: make_task({"name": name}) for name in TASKS if name in names}
    return [ended_at_answer(sample, tasks.get(sample.task)) for sample in samples]


def ended_at_answer(sample: Sample, task: Task | None) -> Sample:
    """The sample without what it says behind its first answer, graded again where that changes it and the task and a label are known."""
    text = sample.text
    for boast in BOASTS:
        text = text.replace(f" {boast}", "").replace(boast, "")
    if sample.task in ANSWERED_IN_WORDS:
        text, answered = through_answer(text, sample.task)
        text = text.rstrip() if answered and len(text.rstrip()) < len(sample.text.rstrip()) else text
    if text == sample.text:
        return sample
    correct = sample.correct
    if task is not None and sample.label:
        try:
            correct = task.verify(text, sample.label).correct
        except LabelError:  # the stored verdict stays: it was made with a label that the task could read
            return sample
    return replace(sample, text=text, correct=correct)
