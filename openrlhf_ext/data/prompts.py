"""Task data -> prompt rows {"input": rendered question, "label": JSON, "datasource": task}.

Released files are read as they are: GSM8K's and chain's {"question", "answer"}, SVAMP's list, MAWPS' {"input", "target"}, MATH's
{"problem", "solution"}, the R3 project's files, the 24-point puzzles of `prepare game24-puzzles` or a table with a `Puzzles` column.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.data.demonstrations import is_project_row, question_and_label, question_faults
from openrlhf_ext.data.labels import TABLES, read_label_examples
from openrlhf_ext.data.templates import DEEPSEEK_MATH, NAMED, REFUSED, render_deepseek_math, render_named
from openrlhf_ext.tasks.base import LabelError, read_label
from openrlhf_ext.tasks.game24.task import read_case
from openrlhf_ext.tasks.household.task import Household
from openrlhf_ext.tasks.labels import LABEL_TASKS
from openrlhf_ext.tasks.math_word import find_answer, last_boxed
from openrlhf_ext.tasks.program import program_head
from openrlhf_ext.tasks.rows import Row, missing_text, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = ("plain", "alpaca", "chat", *DEEPSEEK_MATH, *NAMED)
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response:"
)
SYSTEM = {
    "game24": (
        "Play the 24 game: decide whether the four numbers can be combined into 24 with + - * / and parentheses, each number "
        "used once. Write one step of reasoning per line and the expression on the last line, such as "
        "`reach 24! expression: ((12 + 3) + (10 - 1))` for 10 1 12 3."
    )
}


@dataclass(frozen=True)
class Problem:
    """One question with its label; `solution` is the gold text where the file has one, `head` what the prompt holds of the answer."""

    question: str
    label: dict[str, object]
    solution: str | None = None
    head: str = ""


def read_problems(task: str, path: Path, split: str | None = None, torn: list[str] | None = None) -> list[Problem]:
    """All problems of a file, or of `<split>.jsonl` / `<split>.json` in a directory. Raises ValueError naming file:line:field.

    `torn`: as in `read_rows`, for tasks with rows of JSON.
    """
    path = _data_file(Path(path), split, tables=task in LABEL_TASKS)
    if task in LABEL_TASKS:
        return [Problem(e.question, e.label_row, e.rationale) for e in read_label_examples(task, path)]
    if task not in READERS:
        raise ValueError(f"no reader for task {task!r}: known are {', '.join(READABLE)}")
    if path.suffix == ".csv":
        return list(_puzzle_table(path, task))
    reader = READERS[task]
    return [reader.read(row) for row in read_rows(path, reader.check, torn)]


def render(question: str, template: str, tokenizer: "PreTrainedTokenizerBase | None" = None, system: str = "") -> str:
    """The prompt text. plain: the question and a newline; chat: the tokenizer's own template with an open assistant turn."""
    if template == "plain":
        return question if question.endswith("\n") else question + "\n"
    if template == "alpaca":
        return ALPACA.format(question=question.rstrip("\n"))
    if template in NAMED:
        return render_named(template, question, system)
    if template in DEEPSEEK_MATH:
        # Without a tokenizer a server is asked, which adds its own first token.
        bos = getattr(tokenizer, "bos_token", None) or "" if template.endswith("-bos") else ""
        return render_deepseek_math(question, system, bos)
    if template in REFUSED:
        raise ValueError(f"template {template!r} is not offered: {REFUSED[template]}")
    if template != "chat" or tokenizer is None:
        raise ValueError(f"template {template!r}: choose one of {', '.join(TEMPLATES)}; chat needs --tokenizer")
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def with_head(prompt: str, head: str) -> str:
    """The rendered question and the head of the answer behind it, on a line of its own."""
    return f"{prompt}\n{head}" if head and not prompt.endswith("\n") else prompt + head


def prompt_row(task: str, problem: Problem, prompt: str) -> Row:
    return {"input": prompt, "label": json.dumps(problem.label), "datasource": task}


@dataclass(frozen=True)
class Reader:
    """How rows of one released format become problems; `check` lists what is wrong with a row."""

    check: Callable[[Row], list[str]]
    read: Callable[[Row], Problem]


def _data_file(path: Path, split: str | None, *, tables: bool = False) -> Path:
    if not path.is_dir():
        return path
    if split is None:
        raise ValueError(f"{path} is a directory: name the part of it with --split")
    names = [f"{split}{ending}" for ending in (".jsonl", ".json", *(TABLES if tables else ()))]
    for name in names:
        if (path / name).is_file():
            return path / name
    raise ValueError(f"{path} holds neither {' nor '.join(names)}")


def _worked(question: str, answer: str, find: Callable[[str], str | None] = find_answer) -> Reader:
    """Rows with a question and a worked answer whose result can be found in it."""

    def check(row: Row) -> list[str]:
        problems = missing_text(row, question, answer)
        if not problems and find(str(row[answer])) is None:
            problems.append(f"{answer}: no result found in it (after `####`, or in \\boxed{{}})")
        return problems

    def read(row: Row) -> Problem:
        solution = str(row[answer])
        return Problem(str(row[question]), {"answer": find(solution)}, solution)

    return Reader(check, read)


def _number_text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_svamp(row: Row) -> list[str]:
    problems = missing_text(row, "Body", "Question")
    return problems if _is_number(row.get("Answer")) else [*problems, "Answer: expected a number"]


def _read_svamp(row: Row) -> Problem:
    question = f"{str(row['Body']).strip()} {str(row['Question']).strip()}"
    return Problem(question, {"answer": _number_text(row["Answer"])})


def _check_mawps(row: Row) -> list[str]:
    problems = missing_text(row, "input")
    target = row.get("target")
    return problems if _is_number(target) or isinstance(target, str) else [*problems, "target: expected a number"]


def _read_mawps(row: Row) -> Problem:
    return Problem(str(row["input"]), {"answer": _number_text(row["target"])})


def _check_game24(row: Row) -> list[str]:
    label = row.get("label")
    if not isinstance(label, (str, dict)):
        return ['label: missing; expected {"numbers": [..], "target": n} as prepare game24-puzzles writes']
    try:
        read_case(label)
    except LabelError as error:
        return [f"label: {error}"]
    return []


def _read_game24(row: Row) -> Problem:
    label = row["label"]
    numbers, target = read_case(label if isinstance(label, (str, dict)) else "")
    return _puzzle(list(numbers), target)


def _puzzle(numbers: list[int], target: int) -> Problem:
    return Problem(" ".join(map(str, numbers)) + "\n", {"numbers": numbers, "target": target})


def _puzzle_table(path: Path, task: str) -> Iterator[Problem]:
    """A csv with a `Puzzles` column such as `1 1 4 6`."""
    if task != "game24":
        raise ValueError(f"{path}: csv files are read for game24 only")
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            words = (row.get("Puzzles") or "").split()
            if len(words) < 2 or not all(word.isdecimal() for word in words):
                raise ValueError(
                    f"{path}:{number}: Puzzles: expected numbers such as `1 1 4 6`, found {' '.join(words)!r}"
                )
            yield _puzzle([int(word) for word in words], 24)


def _check_household(row: Row) -> list[str]:
    problems = missing_text(row, "input")
    if not isinstance(row.get("label"), (str, dict)):
        return [*problems, "label: missing; expected what prepare household writes"]
    try:
        Household("household", {}).verify("", row["label"])  # type: ignore[arg-type]
    except LabelError as error:
        problems.append(str(error))
    return problems


def _read_household(row: Row) -> Problem:
    return Problem(str(row["input"]), dict(read_label(row["label"])))  # type: ignore[arg-type]


def _project(task: str, otherwise: Reader | None = None) -> Reader:
    """Rows of the R3 project, and those of another reader where there is one."""

    def check(row: Row) -> list[str]:
        return question_faults(task, row) if otherwise is None or is_project_row(row) else otherwise.check(row)

    def read(row: Row) -> Problem:
        return (
            Problem(*question_and_label(task, row)) if otherwise is None or is_project_row(row) else otherwise.read(row)
        )

    return Reader(check, read)


def _program(reader: Reader) -> Reader:
    """The same questions, to be answered by a program whose head the prompt holds."""

    def read(row: Row) -> Problem:
        problem = reader.read(row)
        head = program_head(problem.question)
        return Problem(problem.question, problem.label | {"prefix": head}, head=head)

    return Reader(reader.check, read)


_GSM8K = _project("gsm8k", _worked("question", "answer"))
_SVAMP = _project("svamp", Reader(_check_svamp, _read_svamp))

READERS: dict[str, Reader] = {
    "game24": Reader(_check_game24, _read_game24),
    "gsm8k": _GSM8K,
    "gsm8k-program": _program(_GSM8K),
    "chain": _worked("question", "answer"),
    "svamp": _SVAMP,
    "svamp-program": _program(_SVAMP),
    "mawps": Reader(_check_mawps, _read_mawps),
    "math": _worked("problem", "solution", last_boxed),
    "mnli-r3": _project("mnli-r3"),
    "snli-r3": _project("snli-r3"),
    "race": _project("race"),
    "boardgameqa": _project("boardgameqa"),
    "household": Reader(_check_household, _read_household),
}

READABLE: tuple[str, ...] = (*READERS, *LABEL_TASKS)
"""Tasks whose released files are read; label tasks by their specification."""
