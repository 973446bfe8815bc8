"""The tables of RLLR's claim, from small runs written by hand."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

from openrlhf_ext.evaluate.reward_diagnostics import diagnose
from openrlhf_ext.record.run_dir import RunDir

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "rllr.py"


@pytest.fixture(scope="module")
def rllr() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_rllr", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_rllr"] = module
    spec.loader.exec_module(module)
    return module


def answers(greedy: list[int], sampled: list[int], quality: list[int]) -> list[dict]:
    modes = ["greedy"] * len(greedy) + ["sampled"] * len(sampled)
    return [
        {"mode": mode, "correct": bool(right), "metrics": {"rationale_quality": float(good)}}
        for mode, right, good in zip(modes, greedy + sampled, quality, strict=True)
    ]


def finished(path: Path, arm: str, seed: int, greedy_after: list[int]) -> Path:
    with RunDir.create(path, f"rllr:\n  reward: {arm}\nrun:\n  seed: {seed}\n", {}) as run:
        run.write_rollouts("eval_label-toy_000000", answers([1, 0, 0, 0], [1, 0], [0, 0, 1, 1, 1, 0]))
        run.write_rollouts("eval_label-toy_000004", answers(greedy_after, [1, 1], [1, 1, 1, 1, 1, 0]))
        run.metrics(4, {"eval/label-toy/accuracy": 1.0})
    return path


def test_one_row_per_arm_with_the_start_first(rllr: ModuleType, tmp_path: Path) -> None:
    finished(tmp_path / "mixed-1", "mixed", 1, [1, 1, 1, 1])
    finished(tmp_path / "mixed-2", "mixed", 2, [1, 1, 0, 0])
    finished(tmp_path / "label-1", "label", 1, [1, 1, 1, 0])
    (tmp_path / "data").mkdir()
    found = [rllr.read_run(path) for path in rllr.run_dirs([tmp_path])]
    lines = rllr.markdown(found).split("\n")
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == ["sft", "label", "mixed"]
    assert lines[2].startswith("| sft | 1 | 25.0 | 50.0 | 50.0 | 50.0 |")
    assert lines[4].startswith(
        "| mixed | 2 | 75.0 ± 35.4 | 100.0 ± 0.0 | 100.0 ± 0.0 | 50.0 ± 0.0 | 100.0, 50.0 | 0.25, 1 |"
    )


def test_a_folder_without_runs_and_a_run_without_evaluations_are_refused(rllr: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run of train rllr"):
        rllr.run_dirs([tmp_path])
    with RunDir.create(tmp_path / "x", "rllr:\n  reward: mixed\nrun:\n  seed: 1\n", {}):
        pass
    with pytest.raises(ValueError, match="not evaluated"):
        rllr.read_run(tmp_path / "x")


def test_the_ladder_of_reward_models(rllr: ModuleType, tmp_path: Path) -> None:
    found = asdict(diagnose([2.0, 2.0], [1.0, 3.0]))
    (tmp_path / "score.json").write_text(json.dumps({"runs/rm-label/model": {"data/label_pairs_test.jsonl": found}}))
    line = rllr.ladder([tmp_path / "score.json"]).split("\n")[2]
    assert line.startswith("| rm-label | label_pairs_test (2) | 50.0 ± 69.3 | 0.00 |") and line.endswith("| 2.00 |")
