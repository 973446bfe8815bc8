"""Files of demonstrations, read as they were released, for the reverse curriculum.

Three forms: GSM8K's {"question", "answer"}; the R3 project's mathematics {"item_id", "question", "answer_cot", "answer_value"} and its other
tasks {"instruction", "input", "output"}. Program answers are of the second form, `answer_cot` the program. A row of that project's mixed files carries a gold prefix behind the marker `### Response:`
of its prompt; the demonstration is put together again, and the same one found several times is taken once.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_ext.data.reverse import Demonstration
from openrlhf_ext.tasks.base import Label, LabelError
from openrlhf_ext.tasks.program import completed, program_head
from openrlhf_ext.tasks.rows import Row, missing_text, read_rows

RESPONSE_MARKER = "\n\n### Response:"
_PROGRAM_HEAD = re.compile(r'\s*def solution\(\):[ \t]*\n(?:[ \t]+("""|\'\'\').*?(?<!\\)\1[ \t]*\n)?', re.DOTALL)


@dataclass(frozen=True)
class Form:
    """What a task's demonstrations look like: the unit they are cut by, and the mark before the answer."""

    unit: str
    marker: str
    """Empty for programs, which end with their last line."""
    label_key: str


FORMS: dict[str, Form] = {
    "gsm8k": Form("line", "####", "answer"),
    "gsm8k-program": Form("line", "", "answer"),
    "svamp-program": Form("line", "", "answer"),
    "chain": Form("line", "####", "answer"),
    "svamp": Form("token", "####", "answer"),
    "mnli-r3": Form("token", "###", "label"),
    "snli-r3": Form("token", "###", "label"),
    "race": Form("token", "###", "label"),
    "boardgameqa": Form("sentence", "####", "label"),
}
"""Task -> form; the units are those of the paper's released data."""


@dataclass
class Demonstrations:
    """The usable ``items`` of a file in its order, and what else was in it.

    ``rejected``: ids of demonstrations whose own answer the task's verifier does not accept; ``mixed``: rows put together from a prefix
    and its rest; ``repeats``: such rows that gave a demonstration already there.
    """

    items: list[Demonstration] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    mixed: int = 0
    repeats: int = 0


@dataclass(frozen=True)
class Solution:
    """What a row says: ``prefix`` + ``rest`` is the solution (no prefix outside mixed files), ``value`` the answer if it has a field."""

    id: str | None
    question: str
    prefix: str
    rest: str
    value: str | None
    mixed: bool


def read_demonstrations(task: str, path: Path, accepts: Callable[[str, Label], bool]) -> Demonstrations:
    """The demonstrations of a file. ``accepts(solution, label)`` is the task's verifier.

    Raises ValueError with one `file:line: field: problem` per fault: absent or empty text, a missing answer, a label that the task does
    not know, an id that names two rows; also where nothing usable is left.
    """
    if task not in FORMS:
        raise ValueError(f"no demonstrations are read for task {task!r}: choose one of {', '.join(FORMS)}")
    form, found = FORMS[task], Demonstrations()
    seen: dict[object, Demonstration] = {}
    rows = 0

    def check(row: Row) -> list[str]:
        nonlocal rows
        name = f"{task}_{rows}"
        rows += 1
        problems = _faults(row)
        if problems:
            return problems
        solution = _solution(row)
        demonstration, fault = assemble(solution, form, name)
        if demonstration is None:
            return [f"{_fields(row)[1]}: {fault}"]
        found.mixed += solution.mixed
        key = solution.id or ((solution.question, demonstration.text) if solution.mixed else name)
        if key in seen:
            if not solution.mixed or seen[key].text != demonstration.text:
                return [f"id: {solution.id!r} names an earlier row too: give every demonstration its own id"]
            found.repeats += 1
            return []
        seen[key] = demonstration
        try:
            accepted = accepts(demonstration.text, demonstration.label)
        except LabelError as error:
            return [f"label: {error}"]
        if accepted:
            found.items.append(demonstration)
        else:
            found.rejected.append(demonstration.id)
        return []

    read_rows(Path(path), check)
    if not found.items:
        raise ValueError(
            f"{path}: the verifier of {task} accepts none of the {len(found.rejected)} demonstrations, not even {found.rejected[0]}: "
            "is this the right --task?"
        )
    return found


def assemble(solution: Solution, form: Form, name: str) -> tuple[Demonstration | None, str]:
    """The demonstration of a row (called ``name`` where it has no id), or None and what is wrong with it."""
    joint = "" if not solution.prefix else "\n" if form.unit == "line" else " "
    text = solution.prefix + joint + solution.rest
    if not form.marker:
        return _assemble_program(solution, text, name)
    if solution.value is not None and _last_marker(text, form.marker) is None:
        text = f"{text.rstrip()}\n{form.marker} {solution.value}"
    at = _last_marker(text, form.marker)
    answer = "" if at is None else text[at + len(form.marker) :].strip()
    if at is None or not answer:
        return None, f"no answer after {form.marker!r} at the end of {text[-60:]!r}"
    # A marker that opens a line leaves the newline to the line before it; inside a line, the blanks before it are the answer's.
    start = at if text[:at].endswith("\n") else len(text[:at].rstrip())
    value = solution.value or answer.split("\n")[0].strip()
    label: dict[str, object] = {form.label_key: value}
    return Demonstration(solution.id or name, solution.question, text[:start], text[start:], label), ""


def _assemble_program(solution: Solution, text: str, name: str) -> tuple[Demonstration | None, str]:
    """The program below the head that every prompt of this question has; its own definition line and docstring give way to it."""
    if solution.value is None:
        return None, "no program with its answer in answer_value: prepare programs makes such rows"
    own = _PROGRAM_HEAD.match(text)
    body = text[own.end() :] if own else text
    head = program_head(solution.question)
    label: dict[str, object] = {"answer": solution.value}
    program = completed("", head + body.rstrip())
    if len(program) <= len(head):
        return None, "no lines of a program"
    return Demonstration(solution.id or name, solution.question, program, "", label, given=len(head)), ""


def is_project_row(row: Row) -> bool:
    """Whether the row has one of the R3 project's own forms."""
    return "answer_value" in row or "instruction" in row


def question_faults(task: str, row: Row) -> list[str]:
    """What keeps a row of the R3 project from being a question with a label; its test files carry no rationale in mathematics."""
    if "answer_value" in row:
        return _not_words(row, "question", "answer_value")
    problems = _faults(row)
    fault = "" if problems else assemble(_solution(row), FORMS[task], "")[1]
    return [*problems, f"{_fields(row)[1]}: {fault}"] if fault else problems


def question_and_label(task: str, row: Row) -> tuple[str, dict[str, object], str | None]:
    """Question, label and, where the row has one, the solution; a prefix of a mixed row is no part of the question."""
    if "answer_value" in row and "answer_cot" not in row:
        return str(row["question"]), {FORMS[task].label_key: str(row["answer_value"]).strip()}, None
    demonstration, fault = assemble(_solution(row), FORMS[task], task)
    if demonstration is None:
        raise ValueError(fault)
    return demonstration.question, demonstration.label, demonstration.text


def _faults(row: Row) -> list[str]:
    """Fields that are absent, not text, or empty."""
    problems = _not_words(row, *_fields(row))
    for name in ("id", "item_id"):
        if not isinstance(row.get(name, "-"), (str, int)) or row.get(name, "-") == "":
            problems.append(f"{name}: expected a name, found {row[name]!r}")
    return problems


def _not_words(row: Row, *names: str) -> list[str]:
    return missing_text(row, *names) or [f"{name}: empty" for name in names if not str(row[name]).strip()]


def _fields(row: Row) -> tuple[str, ...]:
    if "answer_cot" in row or "answer_value" in row:
        return ("question", "answer_cot", "answer_value")
    if "instruction" in row or "output" in row:
        return ("instruction", "output")
    return ("question", "answer")


def _solution(row: Row) -> Solution:
    question_field, solution_field, *value_field = _fields(row)
    question = str(row[question_field])
    if row.get("input") and solution_field == "output":
        question += f"\n{row['input']}"
    question, marker, prefix = question.partition(RESPONSE_MARKER)
    identity = row.get("item_id", row.get("id"))
    return Solution(
        id=None if identity is None else str(identity),
        question=question,
        prefix=prefix.strip() if marker else "",
        rest=str(row[solution_field]),
        value=str(row[value_field[0]]).strip() if value_field else None,
        mixed=bool(marker),
    )


def _last_marker(text: str, marker: str) -> int | None:
    """Where the last run of exactly that many `#` begins."""
    runs = list(re.finditer(rf"(?<!#){marker}(?!#)", text))
    return runs[-1].start() if runs else None
