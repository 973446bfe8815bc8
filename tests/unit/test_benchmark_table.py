"""The table of benchmarks/: literal numbers of two small runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from openrlhf_ext.record.run_dir import RunDir

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "table.py"


@pytest.fixture(scope="module")
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_table", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_run(path: Path, before: float, after: float, first: float, last: float) -> Path:
    with RunDir.create(path, "run: {}\n", {}) as run:
        run.metrics(
            0, {"eval/test/accuracy": before, "eval/test/count": 100, "eval/test/length": 90.0, "time/eval": 5.0}
        )
        run.metrics(1, {"rollout/reward_mean": 0.5, "time/elapsed": first, "time/sync": 1.0})
        run.metrics(
            2, {"eval/test/accuracy": after, "eval/test/count": 100, "eval/test/length": 80.0, "time/elapsed": last}
        )
    return path


def test_two_runs(table: ModuleType, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", 0.30, 0.42, 20, 300), make_run(tmp_path / "b", 0.30, 0.44, 22, 310)]
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in table.markdown(runs).split("\n")
    }
    assert rows[""] == ["a", "b", "mean ± standard deviation"]
    assert rows["greedy accuracy before, %"] == ["30.0", "30.0", "30.0 ± 0"]
    assert rows["greedy accuracy after, %"] == ["42.0", "44.0", "43.0 ± 1.4"]
    assert rows["change, points"] == ["+12.0", "+14.0", "+13.0 ± 1.4"]
    assert rows["mean length (tokens) after"] == ["80", "80", "80 ± 0"]
    assert rows["first update after, s"] == [
        "14",
        "16",
        "15 ± 1.4",
    ]  # without the evaluation and the sync that follow it
    assert rows["whole run, s"] == ["300", "310", "305 ± 7.1"]
    assert rows["steps"] == ["2", "2", "2 ± 0"]


def test_one_run_has_no_spread(table: ModuleType, tmp_path: Path) -> None:
    assert "±" not in table.markdown([make_run(tmp_path / "a", 0.3, 0.4, 20, 300)])


def test_a_run_without_evaluation_is_refused(table: ModuleType, tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "c", "run: {}\n", {}) as run:
        run.metrics(1, {"rollout/reward_mean": 0.5})
    with pytest.raises(ValueError, match=r"not evaluated before and after"):
        table.markdown([tmp_path / "c"])
