"""Released demonstration files, read as they are; what is broken is named with file, line and field."""

import json
from pathlib import Path

import pytest

from openrlhf_ext.data.demonstrations import FORMS, Demonstrations, read_demonstrations
from openrlhf_ext.data.prompts import Problem, read_problems
from openrlhf_ext.tasks import TASKS, make_task


def read(task: str, path: Path, rows: list[dict]) -> Demonstrations:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    verifier = make_task({"name": task})
    return read_demonstrations(task, path, lambda text, label: verifier.verify(text, label).correct)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "demos.jsonl"


@pytest.mark.parametrize(
    ("task", "row", "parts", "label"),
    [
        (
            "gsm8k",
            {"question": "How many?", "answer": "1+1=<<1+1=2>>2\n\n2*500=1000\n#### 1,000"},
            ("1+1=<<1+1=2>>2\n\n2*500=1000\n", "#### 1,000"),
            {"answer": "1,000"},
        ),
        (
            "chain",
            {"id": "c", "question": "1+2 mod 100", "answer": "1+2=3\n#### 3"},
            ("1+2=3\n", "#### 3"),
            {"answer": "3"},
        ),
        ("chain", {"question": "1 mod 100", "answer": "#### 1"}, ("", "#### 1"), {"answer": "1"}),
        (
            "gsm8k",
            {"item_id": "gsm8k_7", "question": "How many?", "answer_cot": "one\ntwo", "answer_value": "620"},
            ("one\ntwo\n", "#### 620"),
            {"answer": "620"},
        ),
        (
            "svamp",
            {"item_id": "s", "question": "q", "answer_cot": "Therefore, the answer is <0.72>.", "answer_value": "0.72"},
            ("Therefore, the answer is <0.72>.\n", "#### 0.72"),
            {"answer": "0.72"},
        ),
        (
            "svamp",
            {"item_id": "s", "question": "q", "answer_cot": "It is 3.\n#### 3.0", "answer_value": "3.0"},
            ("It is 3.\n", "#### 3.0"),
            {"answer": "3.0"},
        ),
        (
            "gsm8k",
            {"instruction": "How many?", "input": "", "output": "one\n#### 5"},
            ("one\n", "#### 5"),
            {"answer": "5"},
        ),
        (
            "mnli-r3",
            {"instruction": "Premise ...", "input": "", "output": 'So it is "yes". ### yes'},
            ('So it is "yes".', " ### yes"),
            {"label": "yes"},
        ),
        (
            "boardgameqa",
            {"instruction": "Rules", "input": "", "output": "A. B.####disproved"},
            ("A. B.", "####disproved"),
            {"label": "disproved"},
        ),
    ],
)
def test_released_forms(file: Path, task: str, row: dict, parts: tuple[str, str], label: dict) -> None:
    (item,) = read(task, file, [row]).items
    assert (item.rationale, item.ending) == parts
    assert item.label == label
    assert item.question == row.get("question", row.get("instruction"))
    assert item.id == str(row.get("item_id", row.get("id", f"{task}_0")))


def test_rows_without_a_name_are_numbered(file: Path) -> None:
    rows = [{"question": f"q{n}", "answer": f"a\n#### {n}"} for n in range(3)]
    assert [item.id for item in read("gsm8k", file, rows).items] == ["gsm8k_0", "gsm8k_1", "gsm8k_2"]


def test_an_input_field_belongs_to_the_question(file: Path) -> None:
    (item,) = read("race", file, [{"instruction": "Read.", "input": "Text", "output": "So. ### B"}]).items
    assert item.question == "Read.\nText"


def test_mixed_rows_are_put_together_again(file: Path) -> None:
    rows = [
        {"item_id": "g1", "question": "q\n\n### Response: l1\nl2", "answer_cot": "l3", "answer_value": "3"},
        {"item_id": "g1", "question": "q\n\n### Response: ", "answer_cot": "l1\nl2\nl3", "answer_value": "3"},
        {"item_id": "g2", "question": "q2\n\n### Response: ", "answer_cot": "l1", "answer_value": "1"},
    ]
    found = read("gsm8k", file, rows)
    assert [(item.id, item.question, item.text) for item in found.items] == [
        ("g1", "q", "l1\nl2\nl3\n#### 3"),
        ("g2", "q2", "l1\n#### 1"),
    ]
    assert (found.mixed, found.repeats) == (3, 1)


def test_mixed_rows_without_a_name_are_compared_by_their_text(file: Path) -> None:
    rows = [
        {"instruction": "r\n\n### Response: One.", "input": "", "output": "Two. #### proved"},
        {"instruction": "r\n\n### Response: ", "input": "", "output": "One. Two. #### proved"},
    ]
    found = read("boardgameqa", file, rows)
    assert [item.text for item in found.items] == ["One. Two. #### proved"]
    assert (found.mixed, found.repeats) == (2, 1)


@pytest.mark.parametrize(
    ("task", "row", "fault"),
    [
        ("gsm8k", {"question": "q"}, "answer: missing"),
        ("gsm8k", {"question": "", "answer": "a\n#### 1"}, "question: empty"),
        ("gsm8k", {"question": "q", "answer": " \n"}, "answer: empty"),
        ("gsm8k", {"question": "q", "answer": "a\nb"}, "answer: no answer after '####'"),
        ("gsm8k", {"question": "q", "answer": "a\n####  "}, "answer: no answer after '####'"),
        ("gsm8k", {"question": 3, "answer": "a\n#### 1"}, "question: expected text, found int"),
        ("gsm8k", {"question": "q", "answer_cot": "a", "answer_value": 3}, "answer_value: expected text, found int"),
        ("gsm8k", {"question": "q", "answer_cot": "a"}, "answer_value: missing"),
        ("gsm8k", {"id": [], "question": "q", "answer": "a\n#### 1"}, "id: expected a name"),
        ("race", {"instruction": "q", "input": ""}, "output: missing"),
        ("race", {"instruction": "q", "input": "", "output": "so ### E"}, "label: race needs"),
        ("svamp", {"Body": "b", "Question": "q", "Answer": 3.0}, "question: missing"),
    ],
)
def test_bad_rows_are_named(file: Path, task: str, row: dict, fault: str) -> None:
    good = (
        {"instruction": "q", "input": "", "output": "so ### A"}
        if FORMS[task].label_key == "label"
        else {"question": "g", "answer": "a\n#### 1"}
    )
    with pytest.raises(ValueError) as caught:
        read(task, file, [good, row])
    assert str(caught.value).startswith(f"{file}:2: {fault}")


def test_two_demonstrations_of_one_name_are_refused(file: Path) -> None:
    row = {"id": "same", "question": "q", "answer": "a\n#### 1"}
    with pytest.raises(ValueError, match=r":2: id: 'same' names an earlier row too"):
        read("chain", file, [row, row])
    mixed = {"item_id": "g", "question": "q\n\n### Response: a", "answer_cot": "b", "answer_value": "1"}
    with pytest.raises(ValueError, match=r":2: id: 'g' names an earlier row too"):
        read("gsm8k", file, [mixed, mixed | {"answer_cot": "c"}])


def test_demonstrations_that_the_verifier_rejects_are_left_out_and_listed(file: Path) -> None:
    rows = [
        {"item_id": "right", "question": "q", "answer_cot": "a\n#### 5", "answer_value": "5"},
        {"item_id": "wrong", "question": "q", "answer_cot": "a\n#### 5", "answer_value": "6"},
    ]
    found = read("gsm8k", file, rows)
    assert [item.id for item in found.items] == ["right"]
    assert found.rejected == ["wrong"]
    with pytest.raises(ValueError, match="accepts none of the 1 demonstrations"):
        read("gsm8k", file, rows[1:])


@pytest.mark.parametrize(
    ("task", "row", "problem"),
    [
        (
            "gsm8k",
            {"item_id": "gsm8k_1", "question": "q", "answer_value": "1000"},
            Problem("q", {"answer": "1000"}),
        ),
        ("svamp", {"item_id": "s", "question": "q", "answer_value": "2.0"}, Problem("q", {"answer": "2.0"})),
        (
            "gsm8k",
            {"item_id": "g", "question": "q\n\n### Response: a", "answer_cot": "b", "answer_value": "5"},
            Problem("q", {"answer": "5"}, "a\nb\n#### 5"),
        ),
        (
            "boardgameqa",
            {"instruction": "q", "input": "", "output": "So.####disproved"},
            Problem("q", {"label": "disproved"}, "So.####disproved"),
        ),
        ("race", {"instruction": "q", "input": "", "output": "So. ### B"}, Problem("q", {"label": "B"}, "So. ### B")),
    ],
)
def test_the_projects_rows_are_questions_too(file: Path, task: str, row: dict, problem: Problem) -> None:
    file.write_text(json.dumps(row))
    assert read_problems(task, file) == [problem]


@pytest.mark.parametrize(
    ("task", "row", "fault"),
    [
        ("gsm8k", {"item_id": "g", "answer_value": "1"}, "question: missing"),
        ("gsm8k", {"question": "q", "answer_value": 1}, "answer_value: expected text, found int"),
        ("gsm8k", {"question": "q", "answer_value": " "}, "answer_value: empty"),
        ("mnli-r3", {"instruction": "q", "input": ""}, "output: missing"),
        ("mnli-r3", {"instruction": "q", "input": "", "output": "yes"}, "output: no answer after '###'"),
        ("mnli-r3", {"question": "q", "answer": "no marker"}, "answer: no answer after '###'"),
    ],
)
def test_bad_questions_are_named(file: Path, task: str, row: dict, fault: str) -> None:
    file.write_text(json.dumps(row))
    with pytest.raises(ValueError) as caught:
        read_problems(task, file)
    assert str(caught.value).startswith(f"{file}:1: {fault}")


def test_unknown_tasks_are_refused(file: Path) -> None:
    with pytest.raises(ValueError, match="choose one of gsm8k"):
        read_demonstrations("game24", file, lambda text, label: True)


def test_every_form_has_its_task_and_marker() -> None:
    assert set(FORMS) <= set(TASKS)
    for name, form in FORMS.items():
        if not form.marker:
            assert name.endswith("-program")
            continue
        task = make_task({"name": name})
        assert task.verify(f"so {form.marker} {'a' if name == 'race' else 5}", gold(name)).parsed == (
            form.label_key == "answer" or name == "race"
        )


def gold(name: str) -> dict[str, str]:
    first = getattr(make_task({"name": name}), "form", None)
    return {"answer": "5"} if first is None else {"label": first.labels[0]}
