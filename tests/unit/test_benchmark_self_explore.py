"""The claim's tables, and the ways of exploring that the cost benchmark compares."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from openrlhf_ext.data.explore import Budget, WrongSolution
from openrlhf_ext.record.run_dir import RunDir
from openrlhf_ext.rollout.explore import Sampled
from openrlhf_ext.tasks import make_task

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    for seed, accuracies in ((1, (0.3, 0.4, 0.42, 0.5)), (2, (0.3, 0.5, 0.5, 0.54))):
        for arm, accuracy in zip(("sft", "rft", "outcome", "step"), accuracies, strict=True):
            write(
                tmp_path / f"seed-{seed}/eval/{arm}/summary.json",
                {"accuracy": accuracy, "unfinished": 0.01, "count": 500},
            )
        found = {"solutions": 90, "pits": 80, "answer_line_pits": 5, "no_pit": 10, "pit_histogram": {"1": 50, "2": 30}}
        cost = {"tokens": 12345, "share": 0.456, "cache_hit_rate": 0.25}
        write(tmp_path / f"seed-{seed}/explored.jsonl.summary.json", found | cost)
    for arm, accuracy in (("sft", 0.6), ("dpo", 0.66)):
        write(
            tmp_path / f"game24/seed-1/eval/{arm}/summary.json", {"accuracy": accuracy, "unfinished": 0.2, "count": 100}
        )
    return tmp_path


def write(path: Path, row: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row))


def test_tables(claim: Path) -> None:
    lines = load("self_explore").markdown(claim).split("\n")
    assert "| RFT | 2 | 45.0 ± 7.1 | 40.0, 50.0 | - | 1.0 ± 0.0 | 500 |" in lines
    assert "| DPO on step pairs | 2 | 52.0 ± 2.8 | 50.0, 54.0 | +7.0 ± 4.2 | 1.0 ± 0.0 | 500 |" in lines
    assert "| 1 | 90 | 80 | 5 | 10 | 1:50 2:30 | 12345 | 0.46 | 25% |" in lines
    assert "| DPO on first wrong lines | 1 | 66.0 | 66.0 | +6.0 | 20.0 | 100 |" in lines


def greedy(folder: Path, right: str) -> None:
    """Graded answers: `1` right, `0` wrong, in order of the problems; a sampled answer beside them is not counted."""
    rows = [{"mode": "greedy", "problem_id": i, "correct": mark == "1"} for i, mark in enumerate(right)]
    rows.append({"mode": "sampled", "problem_id": 0, "correct": True})
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def trained(path: Path, config: dict, updates: int) -> None:
    with RunDir.create(path, yaml.safe_dump(config), {}) as run:
        for step in range(1, updates + 1):
            run.add_cost(train_tokens=1000)
            run.metrics(step, {"train/loss": 0.5})


def test_step_pairs_are_compared_with_outcome_pairs_problem_by_problem(claim: Path) -> None:
    answers = {"sft": "00000000", "rft": "11100000", "outcome": "11000000", "step": "10111111"}
    for seed in (1, 2):
        for arm, right in answers.items():
            greedy(claim / f"seed-{seed}/eval/{arm}", right)
    greedy(claim / "seed-2/eval/step", "11000001")
    lines = load("self_explore").markdown(claim).split("\n")
    # Seed 1: 7 of 8 against 2 of 8, 6 to 1 problems, p = 2 * 8 / 128; seed 2: 3 against 2, 1 to 0. Mean of 62.5 and 12.5 is 37.5;
    # Student with one degree of freedom: 12.706 * 35.355 / sqrt(2) = 317.65.
    head = "| DPO on step pairs against DPO on outcome pairs | 2 | +37.5 ± 35.4 | -280.1 .. +355.1 |"
    assert f"{head} 1 | 7 | 0.12, 1 |" in lines
    assert any(line.startswith("| RFT against SFT | 2 | +37.5 ± 0.0 | +37.5 .. +37.5 | 0 | 6 |") for line in lines)
    assert not any("first wrong lines against" in line for line in lines), "there are no graded answers of the game"
    (claim / "seed-2/eval/step/results.jsonl").write_text("")
    lines = load("self_explore").markdown(claim).split("\n")
    assert any(line.startswith("| DPO on step pairs against DPO on outcome pairs | 1 | +62.5 | - |") for line in lines)


def test_the_training_of_the_arms_and_what_differed_is_said(claim: Path) -> None:
    config = {"train": {"max_epochs": 1, "batch_size": 16}, "adam": {"lr": 2e-5}, "run": {"seed": 1}}
    for seed in (1, 2):
        for arm, updates in (("outcome", 5), ("step", 3)):
            data = {"data": {"dataset": f"{arm}.jsonl"}, "model": {"model_name_or_path": f"seed-{seed}/rft"}}
            trained(claim / f"seed-{seed}/{arm}", config | data, updates)
    greedy(claim / "seed-1/eval/step", "10" * 50)
    text = load("self_explore").markdown(claim)
    assert "| DPO on outcome pairs | 2 | 1 | 5 ± 0.0 | 5 ± 0.0 | 2e-05 |" in text.split("\n")
    assert "| DPO on step pairs | 2 | 1 | 3 ± 0.0 | 3 ± 0.0 | 2e-05 |" in text.split("\n")
    assert "equal in every setting, the start model included." in text
    assert "One accuracy on 100 problems has a 95 % interval of up to 9.6 points" in text
    trained(claim / "seed-3/outcome", config, 1)
    trained(claim / "seed-3/step", config | {"adam": {"lr": 1e-5}}, 1)
    (claim / "seed-3/eval").mkdir()
    assert "of DPO of a seed differ in adam.lr." in load("self_explore").markdown(claim)


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="self_explore"):
        load("self_explore").markdown(tmp_path)


def test_waves_and_loop_find_the_same_pits_with_the_same_work() -> None:
    module = load("explore")
    solutions = tuple(
        WrongSolution(str(i), i, f"q{i}\n", '{"answer": "5"}', "chain", tuple(f"s{j}\n" for j in range(5)), False, None)
        for i in range(12)
    )
    checked = SimpleNamespace(solutions=solutions, budget=Budget(k=2), task=make_task({"name": "chain"}))
    asked: list[int] = []

    def sample(requests):
        asked.append(len(requests))
        return [Sampled("#### 5" if random.Random(r.seed).random() < 0.4 else "#### 6", 3) for r in requests]

    waves = module.by_waves(checked, sample)
    calls, asked[:] = list(asked), []
    loop = module.by_loop(checked, sample)
    assert waves == loop and sum(calls) == sum(asked) == waves[0]
    assert len(calls) <= 5 < len(asked) and set(asked) == {2}
    assert len(set(waves[1])) > 2
    assert module.without_stop(checked, sample) == (12 * 5 * 2, ()) and asked[-1] == 120


def test_the_shares_of_the_claim() -> None:
    module = load("explore")
    ways = [("waves", 2.0, 500, (1, 2)), ("loop", 10.0, 500, (1, 3)), ("everything", 4.0, 1000, ())]
    text = module.markdown([module.Measured(name, s, 9, tokens, 0.5, pits) for name, s, tokens, pits in ways])
    assert "0.20 of the loop's time and 0.50 of the tokens" in text and "Equal pits: 1 of 2" in text
