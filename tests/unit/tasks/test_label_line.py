"""Label tasks: only one last line `Label: <x>` of the closed set is an answer."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.tasks import TASKS, LabelError, make_task
from openrlhf_ext.tasks.labels import LABEL_TASKS, LabelLine, load_spec
from openrlhf_ext.tasks.labels.spec import read_spec

PAPER = ("sst2", "mrpc", "qqp", "mnli", "agnews", "moviereviews", "appreviews", "stsb")
AT_HAND = ("cola", "rte", "trec", "sick")


def test_the_papers_tasks_and_those_at_hand_are_there_and_sound() -> None:
    assert {*PAPER, *AT_HAND, "label-toy"} == set(LABEL_TASKS)
    assert all(make_task({"name": name}).self_test() == [] for name in LABEL_TASKS)


@pytest.mark.parametrize(
    ("response", "answer", "fault"),
    [
        ("Both say so.\nLabel: yes", "yes", ""),
        ("Label: yes", "yes", ""),
        ("label :  YES. \n\n", "yes", ""),
        ("Both say so. Label: yes", None, "label_missing"),  # inside a line
        ("yes", None, "label_missing"),
        ("", None, "label_missing"),
        ("Label: yes\nLabel: yes", None, "label_repeated"),
        ("Label: no\nOr rather\nLabel: yes", None, "label_repeated"),
        ("Label: yes\nfor sure", None, "label_not_last"),
        ("Label: ye", None, "label_unknown"),  # cut off
        ("Label:", None, "label_unknown"),
        ("Label: yes or no", None, "label_unknown"),
        ("Label: yes..", None, "label_unknown"),
        ("x" * 60_000 + "\nLabel: yes", None, "label_missing"),
    ],
)
def test_what_counts_as_an_answer(response: str, answer: str | None, fault: str) -> None:
    task = LabelLine("mrpc", {})
    assert task.find(response) == (answer, fault)
    verdict = task.verify(response, {"label": "yes"})
    assert (verdict.correct, verdict.parsed, verdict.reward) == (
        answer == "yes",
        answer is not None,
        float(answer == "yes"),
    )
    assert sum(verdict.metrics.values()) == 1  # answered, or exactly one fault
    assert tuple(verdict.metrics) == task.metric_keys


def test_a_wrong_label_is_parsed_and_earns_nothing() -> None:
    verdict = make_task({"name": "sst2"}).verify("Dull.\nLabel: negative", '{"label": "positive"}')
    assert (verdict.reward, verdict.correct, verdict.parsed) == (0.0, False, True)


@pytest.mark.parametrize("label", ["{}", '{"label": "maybe"}', '{"label": 1}', "yes", "[]"])
def test_a_gold_label_outside_the_set_is_broken_data(label: str) -> None:
    with pytest.raises(LabelError):
        make_task({"name": "mrpc"}).verify("Label: yes", label)


@given(st.text(), st.sampled_from(LABEL_TASKS))
def test_any_text_is_graded_without_raising(text: str, name: str) -> None:
    task = TASKS[name](name, {})
    gold = load_spec(name).labels[0]
    verdict = task.verify(text, json.dumps({"label": gold, "word": "dog"}))
    assert set(verdict.metrics) == set(task.metric_keys)
    assert verdict.reward in (0.0, 1.0)


def test_the_toys_rationale_is_graded_apart_from_its_label() -> None:
    task, label = make_task({"name": "label-toy"}), {"label": "food", "word": "soup"}
    found = {
        text: (task.verify(text, label).reward, task.verify(text, label).metrics["rationale_quality"])
        for text in (
            "The word is soup.\nLabel: food",
            "The word is soup.\nLabel: tool",
            "The word is axe.\nLabel: food",
            "Label: food",
        )
    }
    assert list(found.values()) == [(1, 1), (0, 1), (1, 0), (1, 0)]


@pytest.mark.parametrize(
    ("raw", "label"),
    [
        ("2.5", "3"),
        ("2.499", "2"),
        ("0", "0"),
        ("5.0", "5"),
        ("4.5", "5"),
        ("0.4", "0"),
        ("6", None),
        ("-1", None),
        ("nan", None),
        ("high", None),
    ],
)
def test_similarity_scores_become_the_nearest_whole_number(raw: str, label: str | None) -> None:
    assert load_spec("stsb").label_of(raw) == label


def test_a_specification_names_everything_that_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "answer: guess\nlabels: [yes, no]\ninstruction: x\ninput: '{a}'\nsource: {columns: {b: 0}, values: {'1': up}, colour: red}\n"
    )
    with pytest.raises(ValueError, match="answer") as error:
        read_spec(path)
    for word in ("need quotes", "source.colour", "source.columns", "'up' is no label"):
        assert word in str(error.value)
