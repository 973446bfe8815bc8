"""The claim's table: literal numbers of small runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from openrlhf_ext.record.run_dir import RunDir

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "reverse_curriculum.py"


@pytest.fixture(scope="module")
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_reverse_curriculum", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def make_run(path: Path, mode: str, start: str, before: float, after: float, right: float) -> Path:
    """Two steps of 10 rollouts, 4 of them from the question."""
    config = f"reverse_curriculum:\n  mode: {mode}\nactor:\n  model_name_or_path: {start}\n"
    with RunDir.create(path, config, {}) as run:
        run.metrics(0, {"eval/chain/accuracy": before, "eval/chain-test/accuracy": 0.9})
        for step in (1, 2):
            stages = {"rollout/stage_0/samples": 4.0, "rollout/stage_0/correct": right}
            stages |= {"rollout/stage_1/samples": 6.0, "rollout/stage_1/correct": 0.5}
            run.metrics(step, stages | {"rollout/samples_total": 10.0 * step, "time/elapsed": 60.0 * step})
        run.metrics(2, {"eval/chain/accuracy": after, "eval/chain-test/accuracy": 0.1})
        rows = [{"prompt": "98+3+4 mod 100\n", "text": "98+3=1\n1+4=6\n#### 6", "correct": False}]
        run.write_rollouts("eval_chain_000000", rows)
        run.write_rollouts("step_000001", [{"prompt": "1+1 mod 100\n", "text": "1+1=2\n"}])
    return path


def test_arms_in_order_with_counts(table: ModuleType, tmp_path: Path) -> None:
    make_run(tmp_path / "mixed-1", "mixed", "m1", 0.02, 0.40, 0.25)
    make_run(tmp_path / "mixed-2", "mixed", "m2", 0.04, 0.46, 0.25)
    make_run(tmp_path / "plain-1", "plain", "m1", 0.02, 0.03, 0.0)
    (tmp_path / "data").mkdir()
    text = table.markdown([table.read_run(path) for path in table.run_dirs([tmp_path])])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")[2:5]]
    assert rows == [
        ["sft", "2", "3.0 ± 1.4", "2.0, 4.0", "-", "-", "-", "-"],
        ["plain", "1", "3.0", "3.0", "+1.0", "6 of 20", "0 of 8", "2.0"],
        ["mixed", "2", "43.0 ± 4.2", "40.0, 46.0", "+40.0 ± 2.8", "16 of 40", "4 of 16", "2.0 ± 0.0"],
    ]
    assert text.endswith("greedy answers: 0.50, 0.50.")


def test_lines_are_judged_by_their_own_sum(table: ModuleType) -> None:
    rows = [
        {"prompt": "5-7+1 mod 100\n", "text": "5-7=98\n98+1=99\n99+1=0\n3+4=8\n12+"},
        {"prompt": "?", "text": "1+1=3"},
    ]
    assert table.step_accuracy(rows) == 0.75
    assert table.step_accuracy([]) is None


def test_runs_that_say_nothing_are_refused(table: ModuleType, tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "a", "reverse_curriculum:\n  mode: plain\n", {}) as run:
        run.metrics(1, {"rollout/reward_mean": 0.5})
    with pytest.raises(ValueError, match="not evaluated before and after"):
        table.read_run(tmp_path / "a")
    with RunDir.create(tmp_path / "b/c", "grpo:\n  max_steps: 1\n", {}) as run:
        run.metrics(1, {"rollout/reward_mean": 0.5})
    with pytest.raises(ValueError, match="no run of train reverse-curriculum"):
        table.run_dirs([tmp_path / "b"])
