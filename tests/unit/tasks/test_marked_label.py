"""Labels behind a marker: what the reverse-curriculum paper's data accept, and what must earn nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.tasks import LabelError, make_task
from openrlhf_ext.tasks.marked_label import MARKED_FORMS


@pytest.mark.parametrize(
    ("task", "response", "label", "reward", "parsed"),
    [
        ("mnli-r3", "The premise says so. ### yes", "yes", 1.0, True),
        ("mnli-r3", "### It is not possible to tell.", "it is not possible to tell", 1.0, True),
        ("mnli-r3", "### no", "yes", 0.0, True),
        ("mnli-r3", "yes", "yes", 0.0, False),  # no marker
        ("mnli-r3", "### yes and no", "yes", 0.0, False),
        ("mnli-r3", "### maybe", "yes", 0.0, False),  # not in the closed set
        ("mnli-r3", "#### yes", "yes", 0.0, False),  # another task's marker
        ("mnli-r3", "### no, wait ### yes", "yes", 1.0, True),  # the last marker decides
        ("mnli-r3", "### yes ### no", "yes", 0.0, True),
        ("mnli-r3", "### yes\n\n### Response: ### ", "yes", 0.0, False),
        ("snli-r3", "### yes\nMore text", "yes", 0.0, False),
        ("race", "So it is B. ### B", "B", 1.0, True),
        ("race", "### b.", "B", 1.0, True),
        ("race", "### E", "A", 0.0, False),
        ("race", "### A B", "A", 0.0, False),
        ("boardgameqa", 'the answer is "no".####disproved', "disproved", 1.0, True),
        ("boardgameqa", "#### unknown", "proved", 0.0, True),
        ("boardgameqa", "### proved", "proved", 0.0, False),
        ("boardgameqa", "", "proved", 0.0, False),
    ],
)
def test_golden_rows(task: str, response: str, label: str, reward: float, parsed: bool) -> None:
    verdict = make_task({"name": task}).verify(response, {"label": label})
    assert (verdict.reward, verdict.correct, verdict.parsed) == (reward, reward == 1, parsed)
    assert verdict.metrics == {"answered": float(parsed)}


@pytest.mark.parametrize("label", [{}, {"label": "maybe"}, {"label": 1}, {"answer": "yes"}, "[]", "{"])
def test_labels_outside_the_set_are_broken_data(label: object) -> None:
    with pytest.raises(LabelError):
        make_task({"name": "mnli-r3"}).verify("### yes", label)


def test_very_long_answers_are_not_read() -> None:
    task = make_task({"name": "race", "max_response_chars": 20})
    assert task.verify("x" * 14 + " ### A", {"label": "a"}).correct
    assert not task.verify("x" * 15 + " ### A", {"label": "a"}).parsed


@given(st.text(), st.sampled_from(sorted(MARKED_FORMS)))
def test_any_text_is_graded(text: str, name: str) -> None:
    task = make_task({"name": name})
    verdicts = [task.verify(text, {"label": label}) for label in task.form.labels]
    assert sum(verdict.correct for verdict in verdicts) <= 1
    assert len({verdict.parsed for verdict in verdicts}) == 1
