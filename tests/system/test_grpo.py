"""GRPO through Ray, vLLM and DeepSpeed raises a reward that a model can raise; without a learning rate it does not.

The runs are jobs of one process and one Ray session. Cost: about 60 s on 2 idle cores.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from pathlib import Path

import pytest

from openrlhf_ext.record.run_dir import read_events
from tests.system.toy import BATCH, PROMPTS, SAMPLES, problem_ids, rows_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]


def rewards_of(directory: Path) -> list[float]:
    """Mean reward of each of the 8 steps, 64 samples a step."""
    rewards = [row["rollout/reward_mean"] for row in rows_of(directory) if row["step"] > 0]
    assert len(rewards) == 8
    return rewards


def test_the_reward_rises_and_not_by_itself(runs: Path) -> None:
    learnt, untouched = rewards_of(runs / "learn"), rewards_of(runs / "control")
    # Against the mean of all steps of the untouched model: the toy may learn nearly everything in its first update.
    assert statistics.fmean(learnt[-3:]) > statistics.fmean(untouched) + 0.25
    assert abs(statistics.fmean(untouched[-4:]) - statistics.fmean(untouched[:4])) < 0.2


def test_engine_and_trainer_agree_on_the_log_probs_of_every_step(runs: Path) -> None:
    for name in ("learn", "control"):
        for row in rows_of(runs / name):
            assert row["health/logprob_gap_max"] < 1e-3, f"{name}, step {row['step']}"
            assert row["health/synced_tensors"] > 10


def test_the_prompts_are_those_of_the_stream(runs: Path) -> None:
    from openrlhf_ext.rollout.prompts import Prompt, PromptStream

    order = [
        p.problem_id for p in PromptStream([Prompt(i, "", "", "") for i in range(PROMPTS)], seed=3).take(8 * BATCH)
    ]
    wanted = {step + 1: order[step * BATCH : (step + 1) * BATCH] for step in range(8)}
    assert problem_ids(runs / "learn") == problem_ids(runs / "control") == wanted


def test_the_run_directory_is_complete(runs: Path) -> None:
    run = runs / "learn"
    for name in ("config.yaml", "plan.json", "metrics.jsonl", "events.jsonl", "report.html", "model/config.json"):
        assert (run / name).stat().st_size > 0, name
    assert [event["kind"] for event in read_events(run)] == ["start", "save", "finish"]
    rows = [json.loads(line) for line in (run / "rollouts" / "step_000008.jsonl").read_text().splitlines()]
    assert len(rows) == BATCH * SAMPLES
    last = rows_of(run)[-1]
    assert last["rollout/samples_total"] == 8 * BATCH * SAMPLES
    assert last["rollout/reward_mean"] == pytest.approx(statistics.fmean(row["reward"] for row in rows))


def test_the_exported_model_is_the_trained_one(runs: Path, toy) -> None:
    from safetensors.torch import load_file

    before, after, idle = (
        load_file(path / "model.safetensors")
        for path in (toy.model, runs / "learn" / "model", runs / "control" / "model")
    )
    assert before.keys() - after.keys() == set()
    assert bool(
        (after.get("lm_head.weight", after["model.embed_tokens.weight"]) == after["model.embed_tokens.weight"]).all()
    )
    assert all((before[name] - idle[name]).abs().max() < 1e-9 for name in before), (
        "a learning rate of 1e-12 moved the model"
    )
    assert all(bool((before[name] != after[name]).any()) for name in before), "some tensors were not trained"


def test_all_jobs_run_in_one_session(runs: Path) -> None:
    """Ray names the folder of a session by the process that started it. How much sooner a second job starts is in benchmarks/README.md."""
    sessions = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()), "ray")
    started = list(sessions.glob(f"session_*_{(runs / 'pid').read_text()}"))
    assert len(started) == 1, f"{len(started)} sessions of one process with three jobs"
