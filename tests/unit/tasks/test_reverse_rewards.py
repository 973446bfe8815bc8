"""The outcome reward of the reverse-curriculum paper's mathematics: 1 within a hundredth, epsilon for a readable wrong number, else 0."""

import json

import pytest

from openrlhf_ext.tasks import make_task


@pytest.mark.parametrize("epsilon", [0.2, 0.1, 0.0])
@pytest.mark.parametrize(
    ("response", "gold", "share"),
    [
        ("5+5=10\n#### 1,000", "1000", "right"),  # the released code gave 0: it could not read the comma
        ("#### $18", "18", "right"),
        ("#### 18.01", "18", "right"),  # at the tolerance
        ("#### 18.011", "18", "wrong"),
        ("#### 17", "18", "wrong"),
        ("#### -18", "18", "wrong"),
        ("#### nan", "18", "unread"),  # the released code paid epsilon
        ("#### inf", "18", "unread"),
        ("#### eighteen", "18", "unread"),
        ("the result is 18", "18", "unread"),
        ("", "18", "unread"),
        ("The answer is <0.72>.", "0.72", "unread"),
    ],
)
def test_reward_table(response: str, gold: str, share: str, epsilon: float) -> None:
    task = make_task({"name": "gsm8k", "tolerance": 1e-2, "partial_reward": epsilon})
    verdict = task.verify(response, json.dumps({"answer": gold}))
    assert verdict.reward == {"right": 1.0, "wrong": epsilon, "unread": 0.0}[share]
    assert verdict.correct == (share == "right")  # accuracy never counts a partial reward


@pytest.mark.parametrize("name", ["mnli-r3", "snli-r3", "race", "boardgameqa"])
def test_label_tasks_pay_no_partial_reward(name: str) -> None:
    task = make_task({"name": name})
    right, wrong, *_ = task.form.labels
    assert task.verify(f"{task.form.marker} {wrong}", {"label": right}).reward == 0.0
    with pytest.raises(ValueError, match="no such option"):
        make_task({"name": name, "partial_reward": 0.2})
