"""Charts: values land where they belong."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.record.panels import PANELS, label, leftover
from openrlhf_ext.record.svg import HEIGHT, WIDTH, Line, Scale, line_chart, log_ticks, short, stacked_bars, thin, ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    high = low + span
    if high - low < 1e-9 * max(abs(low), 1):
        return
    marks = ticks(low, high)
    assert 1 <= len(marks) <= 9
    slack = 1e-6 * (high - low) + 1e-9
    assert all(low - slack <= mark <= high + slack for mark in marks)


def test_ticks_by_hand() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0, 60, 6) == [0, 10, 20, 30, 40, 50, 60]
    assert log_ticks(1e-6, 1e-3) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3])
    assert log_ticks(0.15, 1.5) == pytest.approx([0.2, 0.5, 1.0])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (12000, "12k"), (3.1e6, "3.1M"), (2.1e-6, "2.1e-6"), (1e-5, "1e-5"), (0, "0"), (-0.5, "-0.5")],
)
def test_short(value: float, text: str) -> None:
    assert short(value) == text


def test_a_scale_maps_its_ends() -> None:
    assert [Scale(0, 10, 100, 200)(v) for v in (0, 5, 10)] == [100, 150, 200]
    assert Scale(1, 100, 0, 10, log=True)(10) == pytest.approx(5)


def test_a_line_goes_through_its_points_and_stops_at_gaps() -> None:
    chart = line_chart([Line("a", [0, 1, 2, 3], [0.0, 1.0, None, 1.0], smoothed=False)], title="t")
    path = re.search(r'<path class="l s0" d="([^"]+)"', chart.svg)
    assert path is not None and path[1].count("M") == 2 and path[1].count("L") == 1
    points = [tuple(map(float, p.split())) for p in re.findall(r"[ML]([\d.]+ [\d.]+)", path[1])]
    assert points[0][0] == 46 and points[2][0] == WIDTH - 10 and points[0][1] > points[1][1] == points[2][1]
    ElementTree.fromstring(str(chart.svg))


def test_spikes_survive_thinning() -> None:
    values: list[float | None] = [0.0] * 10_000
    values[7777] = 50.0
    kept = thin(list(range(10_000)), values)
    assert len(kept) <= 800 and 7777 in kept and kept == sorted(kept)


def test_one_outlier_does_not_flatten_the_rest() -> None:
    values: list[float | None] = [1.0 + 0.01 * (i % 5) for i in range(50)]
    values[20] = 1e6
    chart = line_chart([Line("a", list(range(50)), values)], title="t")
    assert chart.data["y"]["hi"] < 2 and chart.notes == ("1 of 50 values lie outside the axis",)  # type: ignore[index]


@pytest.mark.parametrize("values", [[5.0], [0.0, 0.0], [1e-30, 2e-30], [-1.0, 1.0], [1e12, 1e12 + 1]])
@pytest.mark.parametrize("log", [False, True])
def test_odd_ranges_can_be_drawn(values: list[float | None], log: bool) -> None:
    chart = line_chart([Line("a", list(range(len(values))), values)], title="t", log=log, zero=True)
    assert not re.search(r"nan|inf", str(chart.svg)) and str(HEIGHT) in chart.svg


def test_a_chart_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="no value"):
        line_chart([Line("a", [1], [None])], title="t")


def test_bars_stack_to_the_total() -> None:
    chart = stacked_bars([1, 2], [("a", [1.0, 2.0]), ("b", [3.0, 0.0])], title="t")
    assert [s["y"] for s in chart.data["s"]] == [[1.0, 2.0], [3.0, 0.0], [4.0, 2.0]]  # type: ignore[attr-defined]
    heights = {
        css: [float(h) for h in re.findall(rf'<rect class="{css}"[^>]*height="([\d.]+)"', chart.svg)]
        for css in ("f0", "f1")
    }
    assert heights["f0"][1] == pytest.approx(2 * heights["f0"][0], abs=0.2) and heights["f1"] == [
        pytest.approx(3 * heights["f0"][0], abs=0.2)
    ]


def test_many_bars_are_averaged() -> None:
    chart = stacked_bars(list(range(600)), [("a", [float(i) for i in range(600)])], title="t")
    series = chart.data["s"][0]  # type: ignore[index]
    assert (
        len(series["y"]) == 60
        and series["y"][0] == pytest.approx(4.5)
        and chart.notes == ("each bar is the mean of 10 steps",)
    )
    assert all(math.isfinite(x) and 0 <= x <= 599 for x in series["x"])


def test_every_metric_is_shown_somewhere() -> None:
    recorded = [
        "rollout/reward_mean",
        "rollout/reward_std",
        "rollout/length",
        "time/train",
        "time/elapsed",
        "train/odd",
        "eval/a/accuracy",
        "eval/a/count",
    ]
    assert leftover(recorded) == ["train/odd"]
    stages = next(panel for panel in PANELS if panel.title == "Solved by start state")
    found = stages.chosen(
        ["rollout/stage_0/correct", "rollout/stage_0/reward", "rollout/stage_10/correct", "rollout/correct"]
    )
    assert found == ["rollout/stage_0/correct", "rollout/stage_10/correct"]
    assert [label(key, found) for key in found] == ["stage 0", "stage 10"]
    assert label("rollout/stage_0/reward") == "stage 0/reward"
    parts = next(panel for panel in PANELS if panel.title == "Reward parts")
    assert parts.chosen(recorded) == ["rollout/length"]


def test_labels_say_only_what_differs() -> None:
    assert label("eval/game24/accuracy", ["eval/game24/accuracy", "eval/game24/pass@8"]) == "accuracy"
    assert label("eval/a/accuracy", ["eval/a/accuracy", "eval/b/accuracy"]) == "a"
    assert label("eval/game24/length", ["rollout/response_length_mean", "eval/game24/length"]) == "game24 held out"
    assert (
        label("rollout/response_length_mean", ["rollout/response_length_mean", "eval/game24/length"])
        == "training prompts"
    )
    assert label("rollout/length", ["rollout/length"]) == "length reward"
