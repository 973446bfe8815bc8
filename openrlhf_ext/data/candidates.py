"""Answers of a label task that pairs are made of: a problem, the label that an answer argues for, its rationale, perhaps a score.

Read from rows with rationales (`prepare label-toy`, or your own), from trajectories of `prepare prompts --rationalise` (the label row names
what was argued for), and from plain trajectories (the label is what the response ends with; one without a label is left out and counted).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_ext.data.labels import answer_text, example_of, split_answer
from openrlhf_ext.tasks.base import LabelError, read_label
from openrlhf_ext.tasks.labels import LabelSpec
from openrlhf_ext.tasks.rows import Row, missing_text, read_rows


@dataclass(frozen=True)
class Candidate:
    """One answer. `prompt` is the text a model reads; `score` the quality of the rationale, where it is known."""

    problem: str
    prompt: str
    gold: str
    label: str
    rationale: str
    score: float | None = None
    more: Mapping[str, object] = field(default_factory=dict)
    """What the task grades beside the label."""

    @property
    def text(self) -> str:
        return answer_text(self.rationale, self.label)


@dataclass
class Candidates:
    """The answers of a file in its order, and how many of its rows could not be used, by reason."""

    items: list[Candidate] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_candidates(spec: LabelSpec, path: Path, render: Callable[[str], str]) -> Candidates:
    """All usable answers. `render` makes the prompt of a question. Raises ValueError with one `file:line: problem` line per bad row."""
    found = Candidates()

    def check(row: Row) -> list[str]:
        if "prompt" in row or "observation_tokens" in row:
            return _sampled(row, spec, found)
        return _written(row, spec, render, f"{spec.name}_{len(found.items)}", found)

    read_rows(Path(path), check)
    return found


def _written(row: Row, spec: LabelSpec, render: Callable[[str], str], name: str, found: Candidates) -> list[str]:
    """A row with the task's fields, and `argued` where the rationale speaks for another label than the gold one."""
    example, problems = example_of(row, spec, name)
    argued = spec.known(str(row["argued"])) if "argued" in row else example.label if example else None
    if "argued" in row and argued is None:
        problems = [*problems, f"argued: {row['argued']!r} is none of {', '.join(spec.labels)}"]
    score, fault = _score(row)
    problems = problems + fault
    if problems or example is None or argued is None:
        return problems
    rationale = example.rationale or ""
    if "label:" in rationale.lower():
        return ["rationale: holds a label line of its own"]
    problem = str(row.get("id", example.question))
    more = example.more
    found.items.append(Candidate(problem, render(example.question), example.label, argued, rationale, score, more))
    return []


def _sampled(row: Row, spec: LabelSpec, found: Candidates) -> list[str]:
    """A sampled response: to a request for a reason, or to the problem itself."""
    text = row.get("text", row.get("response"))
    problems = missing_text(row, "prompt")
    if not isinstance(text, str):
        problems.append("text: missing; collect writes it")
    try:
        about = read_label(row.get("label", ""))  # type: ignore[arg-type]
    except LabelError as error:
        return [*problems, f"label: {error}"]
    gold = spec.known(str(about.get("label", "")))
    if gold is None:
        problems.append(f"label: {about.get('label')!r} is none of {', '.join(spec.labels)}")
    score, fault = _score(row)
    problems += fault
    if problems or gold is None:
        return problems
    if row.get("truncated"):
        found.left_out["responses that the token limit cut off"] += 1
        return []
    more = {name: about[name] for name in spec.label_fields if name in about}
    if "argued" in about:
        rationale, label = str(text).strip(), spec.known(str(about["argued"]))
        prompt, problem = str(about.get("question", row["prompt"])), str(about.get("problem", row["prompt"]))
        if "label:" in rationale.lower():
            rationale = rationale[: rationale.lower().index("label:")].strip()
    else:
        rationale, label, _ = split_answer(str(text), spec)
        prompt, problem = str(row["prompt"]), str(row.get("problem_id", row["prompt"]))
    if label is None:
        found.left_out["responses without a readable label"] += 1
        return []
    found.items.append(Candidate(problem, prompt, gold, label, rationale, score, more))
    return []


def _score(row: Row) -> tuple[float | None, list[str]]:
    value = row.get("score")
    if value is None:
        return None, []
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return None, [f"score: expected a number, found {value!r}"]
    return float(value), []
