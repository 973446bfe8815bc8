"""Asking a model everything once: waves, seeds, and a resume that repeats and loses nothing."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from openrlhf_ext.evaluate.asking import Ask, AskPlan, ask_all, request_seed
from openrlhf_ext.evaluate.results import ModelResults
from openrlhf_ext.evaluate.suite import Suite
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.tasks import make_task

SUITE = Suite("chain", {"name": "chain"}, samples=3, sample_rows=4, temperature=0.7)
PROMPTS = [Prompt(i, f"{i}+1 mod 100\n", json.dumps({"answer": str(i + 1)}), "chain") for i in range(10)]
PLAN = AskPlan.of(SUITE, len(PROMPTS), wave=6, seed=42)


class FakeModel:
    """Right on even problems; the samples of a problem differ by their seed. Dies after ``lives`` waves."""

    def __init__(self, lives: int = 10**6) -> None:
        self.lives, self.waves = lives, []

    def __call__(self, asks: Sequence[Ask]) -> list[dict]:
        if len(self.waves) == self.lives:
            raise RuntimeError("killed")
        self.waves.append([(ask.prompt.problem_id, ask.sample, ask.temperature) for ask in asks])
        return [
            {
                "text": f"seed {ask.seed if ask.temperature else 0}\n#### {ask.prompt.problem_id + 1 + ask.prompt.problem_id % 2}",
                "truncated": False,
                "action_ranges": [(0, 5)],
            }
            for ask in asks
        ]


def run(model: FakeModel, folder: Path) -> ModelResults:
    results = ModelResults(folder)
    results.recover(PLAN.sizes)
    done = PLAN.total - PLAN.missing(results)
    with Progress(PLAN.total, "test", io.StringIO(), done_steps=done) as progress:
        ask_all(model, PROMPTS, SUITE, make_task(SUITE.task), PLAN, results, progress, "fake", done)
    return results


def test_plan_counts_requests():
    assert (PLAN.problems, PLAN.sampled, PLAN.total) == (10, 4, 10 + 4 * 3)
    assert AskPlan.of(Suite("x", {}, samples=1, sample_rows=4), 10, 6, 0).sampled == 0
    assert AskPlan.of(Suite("x", {}, samples=2), 10, 6, 0).sampled == 10  # 0 rows = all of them
    assert AskPlan.of(Suite("x", {}, samples=2, sample_rows=50), 10, 6, 0).sampled == 10


def test_every_problem_is_asked_once_greedily_and_its_samples_together(tmp_path: Path):
    model = FakeModel()
    results = run(model, tmp_path / "m")
    asked = [ask for wave in model.waves for ask in wave]
    assert [a for a in asked if a[2] == 0] == [(i, 0, 0.0) for i in range(10)]
    assert [a for a in asked if a[2] != 0] == [(i, s, 0.7) for i in range(4) for s in range(3)]
    assert max(map(len, model.waves)) <= 6
    greedy = results.select("greedy", 10)
    assert [r["correct"] for r in greedy] == [i % 2 == 0 for i in range(10)]
    assert greedy[0]["tokens"] == 5 and greedy[0]["prompt"] == "0+1 mod 100\n"


@pytest.mark.parametrize("lives", range(6))
def test_a_killed_evaluation_goes_on_with_exactly_what_is_missing(tmp_path: Path, lives: int):
    whole = run(FakeModel(), tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        run(FakeModel(lives), tmp_path / "m") if lives < 4 else run(FakeModel(3), tmp_path / "m")
    resumed = run(second := FakeModel(), tmp_path / "m")
    assert resumed.select("greedy", 10) == whole.select("greedy", 10)
    assert resumed.select("sampled", 10) == whole.select("sampled", 10)
    again = sum(map(len, second.waves))
    assert again == PLAN.total - sum(map(len, _first_waves(min(lives, 3))))
    assert run(third := FakeModel(), tmp_path / "m").rows == resumed.rows and third.waves == []


def _first_waves(count: int) -> list[range]:
    return [range(6), range(4), range(6), range(6)][:count]


def test_a_kill_in_the_middle_of_a_wave_loses_only_broken_groups(tmp_path: Path):
    run(FakeModel(), tmp_path / "m")
    file = tmp_path / "m" / "results.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:14]) + lines[14][:9])  # greedy, one sampled group, one answer and a torn one
    resumed = run(model := FakeModel(), tmp_path / "m")
    assert [a[:2] for wave in model.waves for a in wave] == [(i, s) for i in (1, 2, 3) for s in range(3)]
    assert len(resumed.rows) == PLAN.total


def test_answers_have_seeds_of_their_own():
    seeds = {request_seed(42, problem, sample) for problem in range(2000) for sample in range(16)}
    assert len(seeds) == 2000 * 16
    assert request_seed(42, 3, 1) != request_seed(43, 3, 1)
    assert all(0 <= seed < 2**31 for seed in seeds)
