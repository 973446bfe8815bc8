"""Waiting on Ray with a deadline that names what is waited for, and with the worker's own error when there is one."""

from __future__ import annotations

import time
from collections.abc import Sequence

import ray


class DeadlineExceeded(RuntimeError):
    """Something did not answer in time."""


def wait_for(refs: Sequence[ray.ObjectRef], what: str, seconds: float) -> list:
    """Results of ``refs`` in order; raises as soon as one fails, or :class:`DeadlineExceeded` after ``seconds``."""
    pending = list(refs)
    remaining = seconds

    end = time.monotonic() + seconds
    while pending and remaining > 0:
        done, pending = ray.wait(pending, num_returns=1, timeout=remaining)
        ray.get(done)  # raise the first failure at once instead of waiting for the others
        remaining = end - time.monotonic()
    if pending:
        raise DeadlineExceeded(
            f"{what}: {len(pending)} of {len(refs)} did not answer within {seconds:.0f} s. "
            "Look at the workers' logs named in events.jsonl; a longer deadline is a `run.*_timeout` key."
        )
    return ray.get(list(refs))
