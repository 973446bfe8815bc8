"""docs/config.md names every key of ours with its default, and no key that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from openrlhf_ext.config.knobs import AVAILABLE_METHODS, knobs
from openrlhf_ext.config.schema import our_fields
from openrlhf_ext.tasks import make_task

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "config.md").read_text()
OURS = {key: default for method in AVAILABLE_METHODS for key, (_, default) in our_fields(method).items()}


@pytest.mark.parametrize("key", sorted(OURS))
def test_every_key_of_ours_has_a_row_with_its_default(key):
    (row,) = re.findall(rf"^\| `{re.escape(key)}` \| ([^|]*) \|", PAGE, flags=re.MULTILINE)
    default = OURS[key]
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        assert float(row) == default
    else:
        assert row == {None: "null", True: "true", False: "false"}.get(default, default)


OPTIONS_OF = {
    "chain": ("tolerance", "partial_reward"),
    "gsm8k-program": ("cpu_seconds", "wall_seconds", "memory_mib", "unconfined"),
    "household": (
        "backend",
        "max_turns",
        "style",
        "instruction",
        "episode_tokens",
        "games",
        "engine_timeout",
        "processes",
    ),
}
"""Options of the page by a task that has them; the others are the 24-point game's."""


def test_every_key_on_the_page_exists():
    known = {key for method in AVAILABLE_METHODS for key in knobs(method)}
    options = [key for key in re.findall(r"`(task\.[a-z_.]+)", PAGE) if key not in OURS]
    assert options
    for key in options:
        leaf = key.removeprefix("task.")
        task = next((task for task, leaves in OPTIONS_OF.items() if leaf in leaves), "game24")
        value = {
            "task.checker": "strict",
            "task.weights": [1, 0, 0],
            "task.clamp": True,
            "task.unconfined": False,
            "task.memory_mib": 512,
            "task.episode_tokens": 512,
            "task.backend": "toy",
            "task.style": "act",
            "task.instruction": "full",
            "task.games": "games",
        }.get(key, 1)
        make_task({"name": task, leaf: value})
    prefixes = "|".join(sorted({key.split(".")[0] for key in known if "." in key} - {"task"}))
    named = set(re.findall(rf"`((?:{prefixes})\.[a-z_.]+)[`:]", PAGE))
    assert named - known == set()
