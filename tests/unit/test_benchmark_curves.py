"""benchmarks/curves.py: means over runs in stretches of steps, a panel per metric, a line per arm."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def curves(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("curves")


def test_a_stretch_is_the_mean_over_all_its_steps_and_runs(curves: ModuleType) -> None:
    one = [{"step": 1, "a": 1.0}, {"step": 2, "a": 3.0}, {"step": 3, "a": 5.0}, {"step": 4, "a": 7.0}]
    other = [{"step": 1, "a": 3.0}, {"step": 2, "b": 9.0}]
    # Steps 1 and 2: 1, 3 and 3 at steps 1, 2 and 1; steps 3 and 4: 5 and 7.
    assert curves.mean_curve([one, other], "a", parts=2) == [pytest.approx((4 / 3, 7 / 3)), (3.5, 6.0)]
    assert curves.mean_curve([one], "missing") == []


def test_every_metric_has_a_panel_on_its_own_scale(curves: ModuleType) -> None:
    arms = {
        "x": [[{"step": 1, "a": -1.0, "b": 4.0}, {"step": 10, "a": 1.0, "b": 0.0}]],
        "y": [[{"step": 10, "b": 2.0}]],
    }
    drawn = ElementTree.fromstring(curves.picture(arms, ["a", "b"]))
    panels = [part for part in drawn if part.tag.endswith("}g")]
    assert [panel[0].text for panel in panels] == ["a", "b"]
    lines = [[e.get("points", "") for e in panel if e.tag.endswith("polyline")] for panel in panels]
    assert [len(found) for found in lines] == [1, 2]
    # The lowest value at the bottom (190 - 34), the highest at the top (24), the last step at the right (300 - 12).
    assert lines[0][0].split()[0].endswith(",156.0") and lines[0][0].endswith("288.0,24.0")
    assert lines[1][0].endswith("288.0,156.0") and lines[1][1].endswith("288.0,90.0")


def test_a_metric_that_no_run_has_is_an_error(curves: ModuleType) -> None:
    with pytest.raises(ValueError, match="train/typo"):
        curves.picture({"x": [[{"step": 1, "a": 1.0}]]}, ["train/typo"])
