"""The tables of OREO's claim, from a folder as the claim leaves it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def oreo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("oreo_table", ROOT / "benchmarks/oreo.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["oreo_table"] = module
    spec.loader.exec_module(module)
    return module


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) if isinstance(value, dict) else "".join(json.dumps(row) + "\n" for row in value))


def test_the_tables_of_a_claim(oreo: ModuleType, tmp_path: Path) -> None:
    for seed, (sft, token) in {"1": (0.5, 0.6), "2": (0.5, 0.7)}.items():
        write(tmp_path / f"answers-{seed}.jsonl", [{"scores": 1.0}, {"scores": 0.0}, {"scores": 0.0}, {"scores": 1.0}])
        write(tmp_path / f"answers-{seed}-sft.jsonl", [{}, {}])
        write(tmp_path / f"answers-{seed}-pairs.jsonl", [{}])
        arms = {"sft": sft, "oreo-token": token}
        models = {arm: {"accuracy": share, "count": 500.0} for arm, share in arms.items()}
        write(tmp_path / f"eval-{seed}" / "summary.json", {"models": models})
    greedy = {"accuracy": 0.6, "search/generated": 20.0, "search/seconds": 0.1}
    beams = {
        "accuracy": 0.8,
        "search/right_finished": 0.5,
        "search/found": 0.9,
        "search/generated": 200.0,
        "search/seconds": 1.5,
    }
    write(tmp_path / "search-1" / "summary.json", {"arms": {"greedy": greedy, "beams-3": beams}})
    (tmp_path / "eval-3").mkdir()  # not finished

    text = oreo.markdown(oreo.read_claim(tmp_path))
    assert "| answers (failures) | 4 (50%) | 4 (50%) |" in text
    assert "| right answers for rejection sampling | 2 | 2 |" in text and "| pairs for DPO | 1 | 1 |" in text
    assert "greedy, 500 problems" in text
    assert "| start model | 2 | 50.0 ± 0.0 | 50.0, 50.0 | - | - |" in text
    assert "| OREO, token | 2 | 65.0 ± 7.1 | 60.0, 70.0 | +15.0 ± 7.1 | - |" in text
    assert "| greedy | 1 | 60.0 | - | - | 20 | 0.10 |" in text
    assert "| beams-3 | 1 | 80.0 | 50.0 | 90.0 | 200 | 1.50 |" in text


def test_an_unfinished_claim_is_named(oreo: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished evaluation"):
        oreo.read_claim(tmp_path)


def test_arms_are_compared_with_rejection_sampling_and_their_effort_is_told(oreo: ModuleType, tmp_path: Path) -> None:
    from openrlhf_ext.record.run_dir import RunDir

    right = {"rejection": {"1": [1, 0, 0, 0], "2": [1, 1, 0, 0]}, "oreo-token": {"1": [0, 1, 1, 1], "2": [1, 1, 1, 1]}}
    for seed in ("1", "2"):
        shares = {arm: {"accuracy": sum(of_arm[seed]) / 4, "count": 4.0} for arm, of_arm in right.items()}
        write(tmp_path / f"eval-{seed}" / "summary.json", {"models": shares})
        for arm, of_arm in right.items():
            rows = [{"problem_id": i, "mode": "greedy", "correct": bool(r)} for i, r in enumerate(of_arm[seed])]
            rows += [{"problem_id": 0, "mode": "sampled", "correct": True}]
            write(tmp_path / f"eval-{seed}" / arm / "results.jsonl", rows)
    configs = {
        "rejection-1": "train:\n  max_epochs: 2\nadam:\n  lr: 0.0003\n",
        "oreo-token-1": "train:\n  max_epochs: 2\nactor:\n  adam:\n    lr: 0.0002\n",
    }
    for name, config in configs.items():
        with RunDir.create(tmp_path / name, config, {}) as run:
            run.metrics(7, {"train/tokens_total": 4200.0})
    differences = {"difference": 0.25, "low": 0.05, "high": 0.5, "only_first": 1, "only_second": 3, "p_value": 0.625}
    write(tmp_path / "search-1" / "summary.json", {"arms": {}, "against_first": {"beams-3": differences}})

    text = oreo.markdown(oreo.read_claim(tmp_path))
    # Both seeds: +50 points, so no spread over seeds; 1 against 3 (p 0.625) and 0 against 2 (p 0.5) problems.
    assert "| OREO, token | 2 | +50.0 ± 0.0 | +50.0 .. +50.0 | 1 | 5 | 0.62, 0.5 |" in text
    assert "| rejection sampling | 1 | 2 | 7 | 4 | 0.0003 |" in text
    assert "| OREO, token | 1 | 2 | 7 | 4 | 0.0002 |" in text
    assert "| beams-3 | 1 | +25.0 | +5.0 .. +50.0 | 1 | 3 | 0.62 |" in text
    assert "One figure on 4 problems" in text
