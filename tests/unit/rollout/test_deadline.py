"""Waiting on Ray: results in order, the first failure at once, and a deadline that names what is waited for.

`ray.wait` and `ray.get` are replaced here; the real ones are waited on by every system test.
"""

from __future__ import annotations

import time

import pytest
import ray

from openrlhf_ext.rollout.deadline import DeadlineExceeded, wait_for


class Later:
    """A reference that is ready ``delay`` seconds after it was made, with a value or an error."""

    def __init__(self, value: object, delay: float = 0.0) -> None:
        self.value, self.ready_at = value, time.monotonic() + delay


@pytest.fixture(autouse=True)
def ray_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(refs: list[Later], *, num_returns: int, timeout: float) -> tuple[list[Later], list[Later]]:
        assert num_returns == 1
        assert timeout > 0, "a timeout of 0 or less would be a busy loop"
        end = time.monotonic() + timeout
        while not any(ref.ready_at <= time.monotonic() for ref in refs) and time.monotonic() < end:
            time.sleep(0.002)
        done = [ref for ref in refs if ref.ready_at <= time.monotonic()][:1]
        return done, [ref for ref in refs if ref not in done]

    def get(refs: list[Later]) -> list[object]:
        for ref in refs:
            if isinstance(ref.value, Exception):
                raise ref.value
        return [ref.value for ref in refs]

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", get)


def test_results_come_in_the_order_of_the_references() -> None:
    assert wait_for([Later("a", 0.05), Later("b"), Later("c", 0.02)], "three answers", 5.0) == ["a", "b", "c"]


def test_nothing_to_wait_for_is_done() -> None:
    assert wait_for([], "nothing", 5.0) == []


def test_a_failure_is_raised_without_waiting_for_the_others() -> None:
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="worker fell over"):
        wait_for([Later("slow", 30.0), Later(RuntimeError("worker fell over"))], "two answers", 60.0)
    assert time.monotonic() - started < 5.0


def test_the_deadline_says_what_was_awaited_how_many_and_how_long() -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"the weight sync: 2 of 3 did not answer within 1 s"):
        wait_for([Later(1), Later(2, 60.0), Later(3, 60.0)], "the weight sync", 0.6)
    assert 0.5 < time.monotonic() - started < 5.0


def test_the_deadline_is_for_all_together_not_for_each() -> None:
    with pytest.raises(DeadlineExceeded):
        wait_for([Later(i, 0.25 * i) for i in range(1, 8)], "seven answers", 0.6)
