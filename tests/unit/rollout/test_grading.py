"""Where a response meets its task: a verifier that breaks is a zero that is seen, never an exception in an engine."""

import pytest

from openrlhf_ext.rollout.grading import grade_response
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.base import Verdict


class Broken:
    """A task whose verifier raises what it is told to."""

    name = "broken"
    metric_keys = ("outcome", "style")

    def __init__(self, failure: BaseException) -> None:
        self.failure = failure

    def verify(self, response: str, label: object) -> Verdict:
        raise self.failure

    def self_test(self) -> list[str]:
        return []

    def split(self, solution: str) -> list[str]:
        return [solution]


def test_a_verdict_passes_through_and_says_no_error() -> None:
    verdict, error = grade_response(make_task({"name": "chain"}), "17+58=75\n#### 75", '{"answer": "75"}')
    assert (verdict.reward, verdict.correct, verdict.parsed, error) == (1.0, True, True, None)


@pytest.mark.parametrize("failure", [ZeroDivisionError("by zero"), RecursionError(), KeyError("x"), MemoryError()])
def test_a_verifier_that_raises_gives_a_zero_with_all_metric_keys_and_the_traceback(failure: Exception) -> None:
    verdict, error = grade_response(Broken(failure), "text", "{}")
    assert verdict == Verdict(reward=0.0, correct=False, parsed=False, metrics={"outcome": 0.0, "style": 0.0})
    assert error is not None
    assert type(failure).__name__ in error
    assert "verify" in error


def test_a_broken_label_is_an_error_too_not_a_bad_answer() -> None:
    verdict, error = grade_response(make_task({"name": "chain"}), "#### 75", "no json")
    assert (verdict.reward, verdict.correct) == (0.0, False)
    assert error is not None
    assert "LabelError" in error


@pytest.mark.parametrize("text", ["", "####", "#### nan", "\x00\ud800", "#### " + "9" * 5000, "(" * 3000])
def test_junk_is_no_error(text: str) -> None:
    verdict, error = grade_response(make_task({"name": "chain"}), text, '{"answer": "75"}')
    assert (verdict.reward, error) == (0.0, None)


def test_a_request_to_stop_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        grade_response(Broken(KeyboardInterrupt()), "text", "{}")
