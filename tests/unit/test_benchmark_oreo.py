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
