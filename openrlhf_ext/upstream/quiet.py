"""What other packages print into the driver's terminal that no user can act on; their real warnings stay."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

WEIGHT_BARS = ("Loading weights", "Writing model shards")
"""Bars of transformers over a model's tensors: a line for each model in a log file, over in a moment."""


def warnings_only() -> None:
    """Silence OpenRLHF's INFO lines in this process; call it after OpenRLHF was imported (all its loggers share one handler).

    What they say is in `rollouts/` and `metrics.jsonl`.
    """
    for handler in logging.getLogger("openrlhf").handlers:
        handler.setLevel(logging.WARNING)


def known_warnings() -> None:
    """Silence two warnings of Ray in this process, each by its own words; nothing is imported.

    Ray tells every driver about a change in a coming version, and hands tensors over without copying them, whereupon torch warns of
    writing into them: nobody here does.
    """
    warnings.filterwarnings("ignore", message="Tip: In future versions of Ray", category=FutureWarning)
    warnings.filterwarnings(
        "ignore",
        message="The given NumPy array is not writable",
        category=UserWarning,
        module=r"ray\._private\.tensor_serialization_utils",
    )


def without_weight_bars() -> None:
    """No bars of transformers over a model's tensors in this process; its other bars (downloads) stay. Imports transformers."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_tqdm_hook(_hide_weight_bars)


def _hide_weight_bars(bar: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return bar(*args, **(options | {"disable": True} if options.get("desc") in WEIGHT_BARS else options))
