"""A realistic run directory without a run: 60 GRPO steps on the 24-point game, made from a seed."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from openrlhf_ext.record.run_dir import RunDir

SOLUTION = """(12) - (3) = 9, left: (12 - 3) = 9, 10, 1
roll back, left: 10 1 12 3
(12) + (3) = 15, left: (12 + 3) = 15, 10, 1
(10) - (1) = 9, left: (10 - 1) = 9, (12 + 3) = 15
((12 + 3)) + ((10 - 1)) = 24, left: ((12 + 3) + (10 - 1)) = 24
reach 24! expression: ((12 + 3) + (10 - 1))"""
WRONG = """(10) - (3) = 7, left: (10 - 3) = 7, 1, 12
(12) / (1) = 13, left: (12 / 1) = 13, (10 - 3) = 7
(13) + (7) = 20, left: ((12 / 1) + (10 - 3)) = 20
reach 24! expression: ((12 / 1) + (10 - 3))"""
ENDLESS = "\n".join(["(10) - (1) = 9, left: (10 - 1) = 9, 12, 3", "roll back, left: 10 1 12 3"] * 9)
CONFIG = """actor:
  model_name_or_path: examples/models/game24-sft
  adam:
    lr: {lr}
algo:
  advantage:
    estimator: group_norm
  kl:
    init_coef: 0.01
    use_loss: true
logger:
  wandb:
    key: hunter2-not-for-the-report
rollout:
  batch_size: 96
  n_samples_per_prompt: 8
run:
  dir: {dir}
  seed: {seed}
task:
  name: game24
  weights: [0.55, 0.3, 0.15]
"""


def plan() -> dict:
    groups = [
        {"name": "actor", "ranks": 1, "nodes": 1, "per_node": 1, "bundle_set": "train", "gpu": 0.0, "cpu": 1.0},
        {"name": "reference", "ranks": 1, "nodes": 1, "per_node": 1, "bundle_set": "train", "gpu": 0.0, "cpu": 0.5},
    ]
    return {"device": "cpu", "groups": groups, "engines": {"count": 1, "tensor_parallel": 1}}


def rollout(rng: random.Random, step: int, problem: int, sample: int, skill: float) -> dict:
    kind = rng.random()
    text, wrong, truncated, outcome = SOLUTION, [], False, 1.0
    if kind > skill:
        text, wrong, outcome = (WRONG, [1, 2, 3], 0.0) if kind < skill + (1 - skill) / 2 else (ENDLESS, [], 0.0)
        truncated = text is ENDLESS
    lines = text.count("\n") + 1
    process, length = 1 - len(wrong) / lines, 1 / (1 + math.exp(0.2 * (lines - 24)))
    parts = {
        "outcome": outcome,
        "process": process,
        "length": length,
        "correct": outcome,
        "parsed": 1.0,
        "verifier_error": 0.0,
    }
    count = len(text) // 4
    return {
        "id": f"{step}-{problem}-{sample}",
        "problem_id": problem,
        "sample": sample,
        "task": "game24",
        "policy": f"step_{step}",
        "step": step,
        "group_id": problem,
        "prompt": "10 1 12 3\n",
        "label": json.dumps({"numbers": [10, 1, 12, 3], "target": 24}),
        "text": text,
        "observation_tokens": list(range(5 + count)),
        "action_ranges": [[5, 5 + count]],
        "rollout_log_probs": None,
        "reward": 0.55 * outcome + 0.3 * process + 0.15 * length,
        "scores": outcome,
        "truncated": truncated,
        "extra_logs": parts,
        "wrong_lines": wrong,
    }


def evaluation(run: RunDir, rng: random.Random, step: int, skill: float) -> dict[str, float]:
    difficulty = random.Random(0)
    rows = [
        rollout(rng, step, problem, 0, 1.0 if skill + rng.gauss(0, 0.12) > difficulty.random() else 0.0)
        for problem in range(100)
    ]
    kept = ("problem_id", "sample", "step", "task", "prompt", "label", "text", "reward", "truncated", "wrong_lines")
    evaluated = [
        {key: row[key] for key in kept}
        | {"mode": "greedy", "correct": row["scores"] == 1.0, "parsed": True, "tokens": len(row["text"]) // 4}
        | {"metrics": {key: row["extra_logs"][key] for key in ("outcome", "process", "length")}}
        for row in rows
    ]
    run.write_rollouts(f"eval_game24_{step:06d}", evaluated)
    solved = sum(row["scores"] for row in rows) / 100
    return {
        "eval/game24/accuracy": solved,
        "eval/game24/pass@8": min(1.0, solved + 0.22),
        "eval/game24/pass@8_count": 32,
        "eval/game24/count": 100,
        "eval/game24/reward": sum(row["reward"] for row in rows) / 100,
        "eval/game24/unfinished": sum(row["truncated"] for row in rows) / 100,
        "eval/game24/truncated": sum(row["truncated"] for row in rows) / 100,
        "eval/game24/verifier_errors": 0,
        "eval/game24/length": 190 - 120 * skill,
    }


def make_run(
    path: Path,
    *,
    seed: int = 1,
    steps: int = 60,
    lr: float = 1e-5,
    gain: float = 0.2,
    ending: str = "finish",
    per_step: int = 24,
) -> Path:
    """Write a whole run and return its path."""
    rng = random.Random(seed)
    run = RunDir.create(path, CONFIG.format(lr=lr, dir=path, seed=seed), plan(), info={"method": "grpo"})
    for step in range(steps + 1):
        skill = 0.3 + gain * (1 - math.exp(-step / (steps / 2.5))) + rng.gauss(0, 0.015)
        values = evaluation(run, rng, step, skill) if step % max(1, steps // 6) == 0 else {}
        if step:
            rows = [rollout(rng, step, (step * 12 + i // 8) % 300, i % 8, skill) for i in range(per_step)]
            run.write_rollouts(f"step_{step:06d}", rows)
            rewards = [row["reward"] for row in rows]
            mean = sum(rewards) / len(rewards)
            run.add_cost(rollout_tokens=96 * 88, rollout_samples=96, train_tokens=96 * 93)
            generate, train = rng.gauss(2.2, 0.15), rng.gauss(3.1, 0.2)
            values |= {
                "rollout/reward_mean": mean,
                "rollout/reward_std": (sum((r - mean) ** 2 for r in rewards) / len(rewards)) ** 0.5,
                "rollout/outcome": skill + rng.gauss(0, 0.04),
                "rollout/process": 0.86 + 0.3 * skill * 0.3 + rng.gauss(0, 0.01),
                "rollout/length": 0.6 + 0.4 * skill + rng.gauss(0, 0.02),
                "rollout/correct": skill + rng.gauss(0, 0.04),
                "rollout/response_length_mean": 150 - 90 * skill + rng.gauss(0, 4),
                "rollout/truncated_rate": max(0.0, 0.4 - 0.5 * skill + rng.gauss(0, 0.02)),
                "rollout/verifier_errors": 0,
                "train/policy_loss": rng.gauss(0, 0.01),
                "train/kl": 0.0004 * step + abs(rng.gauss(0, 0.001)),
                "train/grad_norm": math.exp(rng.gauss(-0.5, 0.3)),
                "train/lr": lr * min(1, step / 5),
                "train/entropy": 0.9 - 0.006 * step + rng.gauss(0, 0.02),
                "health/logprob_gap_mean": abs(rng.gauss(2e-6, 5e-7)),
                "health/logprob_gap_max": abs(rng.gauss(4e-5, 2e-5)),
                "health/synced_tensors": 27,
                "rollout/temperature": 1.0,
                "rollout/group_reward_std": 0.2 + rng.random() * 0.05,
                "rollout/parsed": 1.0,
                "rollout/unfinished": 0.1,
                "time/generate": generate,
                "time/experience": rng.gauss(1.4, 0.1),
                "time/train": train,
                "time/sync": 0.16,
                "time/eval": 4.0 if step % max(1, steps // 6) == 0 else 0.0,
                "time/save": 0.9 if step % 10 == 0 else 0.0,
                "time/step": generate + train + 2.3 + (4.9 if step % 10 == 0 else 0),
                "memory/driver_gib": 1.1 + step * 0.002,
                "memory/tree_gib": 5.2 + 0.3 * math.tanh(step / 10),
                "rollout/repeat_share": rng.random() * 0.1,
            }
            run.totals.elapsed += values["time/step"]
        run.metrics(step, values)
        if step and step % 10 == 0:
            run.event("save", step=step, path=f"checkpoints/step_{step}")
        if step == steps // 2:
            run.event("warning", step=step, message="responses reach the token limit in 31 % of the samples")
    if ending == "failure":
        run.close(
            "failure",
            error="ActorDiedError",
            message="worker policy rank 0 died: OutOfMemoryError: 23.1 of 24.0 GiB used",
            step=steps,
        )
    else:
        run.close(ending)
    return path


@pytest.fixture(scope="session", name="make_runs")
def make_runs_fixture() -> Callable[..., Path]:
    """`make_runs(path, seed=, steps=, ...)` writes a run directory and returns its path. Nothing here needs to outlive a power cut."""

    def quick(path: Path, **options: object) -> Path:
        with mock.patch("openrlhf_ext.record.jsonl.os.fsync"):
            return make_run(path, **options)  # type: ignore[arg-type]

    return quick
