"""OpenRLHF's loggers share one handler: its warnings come through, its lines of every step do not."""

from __future__ import annotations

import logging

from openrlhf_ext.upstream.quiet import warnings_only


def test_warnings_stay_and_lines_of_every_step_go(monkeypatch) -> None:
    from openrlhf.utils.logging_utils import init_logger

    logger = init_logger("openrlhf.some_module")
    (handler,) = logger.handlers
    assert handler in logging.getLogger("openrlhf").handlers  # the only one, unless a test imported OpenRLHF twice
    seen: list[str] = []
    monkeypatch.setattr(handler, "emit", lambda record: seen.append(record.getMessage()))
    before = handler.level
    try:
        handler.setLevel(logging.INFO)
        logger.info("a sample of this step")
        warnings_only()
        logger.info("a sample of the next step")
        logger.warning("a tensor was not sent")
    finally:
        handler.setLevel(before)
    assert seen == ["a sample of this step", "a tensor was not sent"]
