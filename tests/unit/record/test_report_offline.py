"""What the report says of a run on stored trajectories: values of successes and failures apart, and whether they left their scale."""

from __future__ import annotations

from pathlib import Path

import pytest

from openrlhf_ext.record.facts import EventLine, event_lines, health
from openrlhf_ext.record.panels import PANELS, label, leftover
from openrlhf_ext.record.view import View

ROW = {
    "step": 1,
    "train/value_loss": 0.5,
    "train/value_success": 0.6,
    "train/value_failure": 0.1,
    "train/log_ratio_success": 1.0,
    "train/log_ratio_failure": -2.0,
    "health/value_min": 0.0,
    "health/value_max": 0.9,
    "train/epoch": 0.5,
}


def view(*outside: float) -> View:
    rows = [ROW | {"step": i, "health/value_outside": share} for i, share in enumerate(outside, start=1)]
    events = [{"kind": "data", "usable": 192, "dropped": {"truncated": 1}}]
    return View(Path("run"), rows=rows, events=events)


@pytest.mark.parametrize(
    ("outside", "level", "text"),
    [
        ((0.0, 0.0), "ok", "Values stayed within the scale of the rewards."),
        ((0.0, 0.25, 0.0), "warn", "Up to 25 % of a batch's values left the scale of the rewards."),
    ],
)
def test_values_that_leave_their_scale_are_a_finding(outside: tuple[float, ...], level: str, text: str) -> None:
    assert [(check.level, check.text) for check in health(view(*outside))] == [(level, text)]


def test_every_metric_of_the_values_has_its_panel() -> None:
    names = [*ROW, "health/value_outside"]
    names.remove("step")
    assert leftover(names) == []
    curves = {panel.title: [label(key) for key in panel.chosen(names)] for panel in PANELS if panel.chosen(names)}
    assert curves["Values of successes and failures"] == ["successes", "failures"]
    assert curves["Range of the values"] == ["smallest", "largest"]


def test_what_was_left_out_is_told() -> None:
    (line,) = event_lines(view(0.0))
    assert isinstance(line, EventLine)
    assert (line.kind, line.text) == ("data read", 'usable 192 · dropped {"truncated": 1}')
