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
    assert "| 9.5 .. 90.5 |" in line


def told(path: Path, arm: str, seed: int, greedy: list[int], good: list[int], **more: str) -> None:
    """A run with four held-out rows; ``greedy`` and ``good``: label and rationale of each row after training."""
    config = {
        "rllr": {"reward": arm, "label_model": "rm-label"},
        "run": {"seed": seed, "dir": str(path)},
        "actor": {"model_name_or_path": "sft"},
        **more,
    }
    with RunDir.create(path / f"{arm}-{seed}", json.dumps(config), {}) as run:
        run.write_rollouts("eval_label-toy_000000", answers([1, 0, 0, 0], [0, 1], [0, 0, 1, 1, 1, 0]))
        run.write_rollouts("eval_label-toy_000004", answers(greedy, [1, 1], [*good, 1, 0]))
        run.metrics(4, {"eval/label-toy/accuracy": 1.0, "rollout/samples_total": 512})


def test_the_claimed_order_is_tested_arm_against_arm_on_the_same_rows(rllr: ModuleType, tmp_path: Path) -> None:
    told(tmp_path, "label", 1, [1, 1, 1, 1], [0, 0, 0, 1])
    told(tmp_path, "rationale", 1, [0, 1, 0, 0], [1, 1, 1, 1])
    told(tmp_path, "label", 2, [1, 1, 1, 0], [0, 0, 1, 1])
    told(tmp_path, "rationale", 2, [0, 0, 0, 1], [1, 1, 1, 1])
    told(tmp_path, "mixed", 3, [1, 1, 1, 1], [1, 1, 1, 1])  # no other arm has its seed: nothing to compare it with
    runs = [rllr.read_run(path) for path in rllr.run_dirs([tmp_path])]
    lines = rllr.order_table(runs).split("\n")[2:]
    # Accuracy: 100 - 25 and 75 - 25 points; rows that one run alone has right: 3 to 0, and 3 to 1. p = 2 / 8 and 2 * 5 / 16.
    # Two seeds, Student: 62.5 +- 12.706 * 17.678 / sqrt(2) = 62.5 +- 158.8.
    assert lines[0] == (
        "| accuracy: label far above rationale | greedy | 2 | +62.5 ± 17.7 | -96.3 .. +221.3 | 1 | 6 | 0.25, 0.62 |"
    )
    assert lines[2].startswith("| quality: rationale above label | greedy | 2 | +62.5 ± 17.7 |")
    assert lines[2].endswith("| 0 | 5 | 0.25, 0.5 |")
    assert lines[1].startswith("| accuracy: label far above rationale | sampled | 2 | +0.0 ± 0.0 |")
    assert not any("mixed" in line for line in lines)
    assert rllr.order_table(runs[-1:]) == ""


def test_what_differed_besides_the_arm_is_said(rllr: ModuleType, tmp_path: Path) -> None:
    told(tmp_path / "a", "label", 1, [1, 1, 1, 1], [1, 1, 1, 1])
    told(tmp_path / "a", "rationale", 1, [1, 1, 1, 1], [1, 1, 1, 1])
    same = rllr.fairness([rllr.read_run(path) for path in rllr.run_dirs([tmp_path / "a"])])
    assert "differ in no setting; 4 steps and 512 sampled answers each." in same and "One start model" in same
    assert (
        "on 4 held-out rows: one figure has a 95 % interval of up to 35.0 points" in same
    )  # Wilson at 2 of 4: 0.15 .. 0.85
    told(tmp_path / "a", "mixed", 1, [1, 1, 1, 1], [1, 1, 1, 1], rollout={"batch_size": 64})
    apart = rllr.fairness([rllr.read_run(path) for path in rllr.run_dirs([tmp_path / "a"])])
    assert "differ in rollout.batch_size (64, None);" in apart
