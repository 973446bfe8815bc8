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
    assert text.endswith("greedy answers: 0.50, 0.50.\nRight lines of plain RL's first samples: 1.00.")


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


def make_pair(path: Path, mode: str, seed: int, solved: list[bool], rate: float = 1e-4) -> Path:
    """Ten steps of 4 samples of stage 1 and, from the sixth on, of the question; the last evaluation's answers are kept."""
    config = f"run:\n  seed: {seed}\nreverse_curriculum:\n  mode: {mode}\nactor:\n  model_name_or_path: m\n  adam:\n    lr: {rate}\n"
    with RunDir.create(path, config, {}) as run:
        run.metrics(0, {"eval/chain/accuracy": 0.0})
        for step in range(1, 11):
            row = {"rollout/stage_1/samples": 4.0, "rollout/stage_1/correct": step / 10}
            if step > 5:
                row |= {"rollout/stage_0/samples": 4.0, "rollout/stage_0/correct": 0.25}
            run.metrics(step, row | {"rollout/samples_total": 40.0, "rollout/tokens_total": 3000.0})
        run.metrics(10, {"eval/chain/accuracy": sum(solved) / len(solved)})
        greedy = [
            {"prompt": f"{i}+1 mod 100\n", "text": "", "mode": "greedy", "correct": s} for i, s in enumerate(solved)
        ]
        sampled = [{"prompt": "0+1 mod 100\n", "text": "", "mode": "sampled", "correct": True}]
        run.write_rollouts("eval_chain_000010", greedy + sampled)
        run.write_rollouts("eval_chain-test_000010", [dict(row, correct=True) for row in greedy])
    return path


def test_arms_are_compared_seed_by_seed_and_problem_by_problem(table: ModuleType, tmp_path: Path) -> None:
    no, few, many = [False] * 8, [True] + [False] * 7, [False] + [True] * 7
    make_pair(tmp_path / "plain-1", "plain", 1, few)
    make_pair(tmp_path / "plain-2", "plain", 2, no)
    make_pair(tmp_path / "mixed-1", "mixed", 1, many)
    make_pair(tmp_path / "mixed-2", "mixed", 2, many)
    make_pair(tmp_path / "mixed-3", "mixed", 3, many)  # no plain run of this seed
    text = table.markdown([table.read_run(path) for path in table.run_dirs([tmp_path])])
    # 75.0 and 87.5 points: mean 81.25, deviation 8.84, t(1) = 12.706, so 81.25 +- 79.4. p: 1 against 7, 0 against 7.
    assert "| mixed | 2 | +81.2 ± 8.8 | +1.8 .. +160.7 | 1 | 14 | 0.07, 0.016 |" in text
    assert "| mixed | 15 > 95 | 25 > 25 |" in text, "steps 1 and 2, then 9 and 10; the question is there from step 6 on"
    assert "differ in no setting; 40 rollouts each." in text
    assert "plain 3k, mixed 3k" in text
    assert "on 8 held-out problems" in text


def test_runs_that_were_not_equal_are_told(table: ModuleType, tmp_path: Path) -> None:
    make_pair(tmp_path / "plain-1", "plain", 1, [False] * 4)
    make_pair(tmp_path / "mixed-1", "mixed", 1, [True] * 4, rate=3e-4)
    text = table.markdown([table.read_run(path) for path in table.run_dirs([tmp_path])])
    assert "differ in actor.adam.lr (0.0001, 0.0003)" in text
    assert "| mixed | 1 | +100.0 | - | 0 | 4 | 0.12 |" in text


def test_the_picture_has_a_panel_per_arm_on_one_scale(
    table: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xml.etree import ElementTree

    make_pair(tmp_path / "plain-1", "plain", 1, [False] * 4)
    make_pair(tmp_path / "mixed-1", "mixed", 1, [True] * 4)
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import start_state_picture

    drawn = start_state_picture.picture([table.read_run(path) for path in table.run_dirs([tmp_path])])
    panels = [e for e in ElementTree.fromstring(drawn) if e.tag.endswith("}g")]
    titles = [panel[0].text for panel in panels]
    assert titles[0].startswith("plain") and titles[1].startswith("mixed") and titles[2].startswith("held-out")
    lines = [[e for e in panel if e.tag.endswith("polyline")] for panel in panels]
    assert [len(found) for found in lines] == [2, 2, 2]
    # Accuracy 0 and 1 at the last step end at the bottom (190 - 34) and the top (24) of the panel.
    assert lines[2][0].get("points", "").endswith("288.0,156.0") and lines[2][1].get("points", "").endswith(
        "288.0,24.0"
    )
