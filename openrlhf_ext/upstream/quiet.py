"""OpenRLHF's log lines in the driver: its warnings stay, its three lines of every step do not bury the progress line."""

from __future__ import annotations

import logging


def warnings_only() -> None:
    """Silence OpenRLHF's INFO lines in this process; call it after OpenRLHF was imported (all its loggers share one handler).

    What they say is in `rollouts/` and `metrics.jsonl`.
    """
    for handler in logging.getLogger("openrlhf").handlers:
        handler.setLevel(logging.WARNING)
