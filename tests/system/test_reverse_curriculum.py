"""The reverse curriculum through Ray, vLLM and DeepSpeed: a critic that learns, metrics of every stage, and two runs that are killed.

All runs are jobs of three processes. The first is killed while staged training is between two borders; the second finishes that run and is
killed in an adaptive one; the third finishes that one and makes the runs without interruption. Sampling in the runs that are compared is
deterministic (a nucleus of one token). Cost: three starts, about 90 s on 2 idle cores.
"""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from openrlhf_ext.checkpoint import checkpoints, latest_checkpoint, read_state
from openrlhf_ext.record.run_dir import read_events
from tests.system.toy import (
    BATCH,
    Job,
    Toy,
    chain_row,
    environment,
    problem_ids,
    rows_of,
    start_state_row,
    talk_numbers_half_the_time,
    write_rows,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

PROBLEMS, STAGES, SAMPLES, STEPS = 8, 3, 2, 8
BUDGETS = (36, 15, 13)  # 13 start states of stage 2 end inside step 2, 15 of stage 1 inside step 4
MIXED_STEPS = 4
REPEATABLE: dict[str, object] = {
    "rollout__top_p": 1e-6,
    "actor__lr_scheduler": "cosine_with_min_lr",
    "critic__lr_scheduler": "cosine_with_min_lr",
    "algo__kl__init_coef": 0,  # no reference: one process less
    "ckpt__save_steps": 2,
    "ckpt__max_num": 2,
    "reverse_curriculum__max_steps": STEPS,
}
MODES: dict[str, dict[str, object]] = {
    "staged": {"reverse_curriculum__mode": "staged", "reverse_curriculum__budgets": ",".join(map(str, BUDGETS))},
    "adaptive": {"reverse_curriculum__mode": "adaptive", "reverse_curriculum__adaptive_memory": 8},
}
COMPARED = (
    *("rollout/reward_mean", "rollout/response_length_mean", "rollout/samples_total", "rollout/tokens_total"),
    *("train/lr", "train/policy_loss", "train/grad_norm", "train/return_mean", "train/tokens_total"),
    *("train/critic_loss", "train/critic_lr", "train/critic_grad_norm", "train/value_mean"),
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A tiny model that answers about half of all start states with a number, and 8 problems at 3 stages."""
    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("curriculum-toy")
    build_tiny_model(folder / "model", task="chain", layers=2, hidden=64, heads=2, context=64, seed=1)
    rows = [start_state_row(i, stage) for stage in range(STAGES) for i in range(PROBLEMS)]
    write_rows(folder / "mixed.jsonl", rows)
    write_rows(folder / "dev.jsonl", [chain_row(i) for i in range(20, 24)])
    write_rows(folder / "test.jsonl", [chain_row(i) for i in range(24, 30)])
    talk_numbers_half_the_time(folder / "model", [str(row["input"]) for row in rows])
    return Toy(folder / "model", folder / "mixed.jsonl")


@pytest.fixture(scope="module")
def runs(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`staged` and `adaptive`, each killed once, `staged-whole` and `adaptive-whole`, never interrupted, and `mixed`."""
    folder = tmp_path_factory.mktemp("curriculum-runs")
    words = {name: toy.reverse_curriculum(folder / name, **REPEATABLE | options) for name, options in MODES.items()}
    whole = {
        name: toy.reverse_curriculum(folder / f"{name}-whole", **REPEATABLE | options)
        for name, options in MODES.items()
    }
    mixed = toy.reverse_curriculum(
        folder / "mixed",
        reverse_curriculum__max_steps=MIXED_STEPS,
        train__max_epochs=2,
        reward__clip_range="0.9,1",  # whatever the policy does, returns are near 1 and the values of a fresh head near 0
        eval__dataset=toy.prompts.with_name("dev.jsonl"),
        eval__steps=2,
        evaluation__keep_best=True,
        evaluation__test_dataset=toy.prompts.with_name("test.jsonl"),
    )
    started: list[Job] = []

    def start(jobs: Sequence[Sequence[str]]) -> Job:
        file = folder / f"{len(started)}.jobs"
        file.write_text("\n".join(map(shlex.join, jobs)))
        started.append(Job(["jobs", str(file)], file.with_suffix(".log"), environment()))
        return started[-1]

    def kill_in(job: Job, name: str) -> None:
        job.until(lambda: last_step(folder / name) >= 3, f"third step of {name}")
        job.signal(signal.SIGKILL)
        job.wait()

    try:
        kill_in(start([words["staged"]]), "staged")
        kill_in(start([[*words["staged"], "--resume"], words["adaptive"]]), "adaptive")
        job = start([[*words["adaptive"], "--resume"], whole["staged"], whole["adaptive"], mixed])
        assert job.wait(1200) == 0, job.output()[-6000:]
        yield folder
    finally:
        for job in started:
            if job.process.poll() is None:
                job.signal(signal.SIGKILL)
                job.process.wait()


def last_step(directory: Path) -> int:
    rows = rows_of(directory)
    return int(rows[-1]["step"]) if rows else 0


def trained(directory: Path) -> list[dict]:
    """The metric rows of training steps."""
    return [row for row in rows_of(directory) if row["step"] > 0]


def stages(directory: Path) -> list[list[int]]:
    """Stages of the start states of every step in order; row i of the data is of stage i // 8."""
    return [[i // PROBLEMS for i in ids] for ids in problem_ids(directory, SAMPLES).values()]


def of_stage(row: dict, name: str) -> dict[int, float]:
    keys = {stage: f"rollout/stage_{stage}/{name}" for stage in range(STAGES)}
    return {stage: row[key] for stage, key in keys.items() if key in row}


def test_a_mixed_run_reports_every_stage_of_every_step(runs: Path) -> None:
    rows = trained(runs / "mixed")
    assert [row["step"] for row in rows] == list(range(1, MIXED_STEPS + 1))
    for row, seen in zip(rows, stages(runs / "mixed"), strict=True):
        counted = {stage: float(seen.count(stage) * SAMPLES) for stage in sorted(set(seen))}
        assert of_stage(row, "samples") == counted
        assert sum(counted.values()) == BATCH * SAMPLES
        means = of_stage(row, "reward")
        assert sum(means[s] * counted[s] for s in counted) / (BATCH * SAMPLES) == pytest.approx(
            row["rollout/reward_mean"]
        )
        assert of_stage(row, "correct").get(0, 0.0) == 0.0, "no digit is 777"
    ids = [i for step in problem_ids(runs / "mixed", SAMPLES).values() for i in step]
    assert sorted(ids[: PROBLEMS * STAGES]) == list(range(PROBLEMS * STAGES)), "every start state once before any twice"


def test_the_critic_learns_the_returns(runs: Path) -> None:
    rows = trained(runs / "mixed")
    assert all(0.8 < row["train/return_mean"] < 1.1 for row in rows), "the outcome less the KL of four tokens"
    assert rows[-1]["train/critic_loss"] < 0.5 * rows[0]["train/critic_loss"]
    distance = [abs(row["train/value_mean"] - row["train/return_mean"]) for row in rows]
    assert distance[-1] < 0.7 * distance[0]
    assert all(row["train/critic_grad_norm"] > 0 and row["train/critic_lr"] == pytest.approx(3e-3) for row in rows)


def test_engine_and_trainer_agree_on_the_log_probs(runs: Path) -> None:
    for row in trained(runs / "mixed"):
        assert row["health/logprob_gap_max"] < 1e-3, f"step {row['step']}"
        assert row["health/synced_tensors"] > 10


def test_the_dev_split_chooses_and_the_test_set_is_logged(runs: Path) -> None:
    run = runs / "mixed"
    evaluated = {row["step"]: row for row in rows_of(run) if "eval/chain/accuracy" in row}
    assert list(evaluated) == [0, 2, 4]
    assert {row["eval/chain/count"] for row in evaluated.values()} == {4.0}
    assert {row["eval/chain-test/count"] for row in evaluated.values()} == {6.0}
    best = [event for event in read_events(run) if event["kind"] == "best"]
    assert best[0]["step"] == 0
    assert [event["accuracy"] for event in best] == sorted({event["accuracy"] for event in best})
    assert (run / "best" / "model.safetensors").exists() == (len(best) > 1)
    for name in ("config.yaml", "plan.json", "metrics.jsonl", "report.html", "model/config.json"):
        assert (run / name).stat().st_size > 0, name
    plan = json.loads((run / "plan.json").read_text())
    assert [group["name"] for group in plan["groups"]] == ["actor", "critic", "ref"]


def test_staged_training_goes_back_stage_by_stage(runs: Path) -> None:
    flat = [stage for step in stages(runs / "staged-whole") for stage in step]
    assert flat == [2] * BUDGETS[2] + [1] * BUDGETS[1] + [0] * BUDGETS[0]
    reported = [row["rollout/stage"] for row in trained(runs / "staged-whole")]
    assert reported == [2, 1, 1, 0, 0, 0, 0, 0], "where the next start state comes from"


def test_adaptive_training_measures_its_stages(runs: Path) -> None:
    rows = trained(runs / "adaptive-whole")
    for row, seen in zip(rows, stages(runs / "adaptive-whole"), strict=True):
        assert of_stage(row, "samples") == {stage: float(seen.count(stage) * SAMPLES) for stage in sorted(set(seen))}
        assert sum(of_stage(row, "share").values()) == pytest.approx(1.0)
    falling = [of_stage(row, "success")[0] for row in rows]
    assert falling == sorted(falling, reverse=True), "stage 0 is never right"
    assert falling[-1] < 0.2 < of_stage(rows[-1], "success")[2]


@pytest.mark.parametrize("mode", list(MODES))
def test_a_killed_run_goes_on_where_it_was(runs: Path, mode: str) -> None:
    killed, whole = runs / mode, runs / f"{mode}-whole"
    kinds = [event["kind"] for event in read_events(killed)]
    assert (kinds.count("start"), kinds.count("resume"), kinds[-1]) == (1, 1, "finish")
    assert stages(killed) == stages(whole)
    assert problem_ids(killed, SAMPLES) == problem_ids(whole, SAMPLES)
    assert [row["step"] for row in trained(killed)] == list(range(1, STEPS + 1))
    for ours, theirs in zip(trained(killed), trained(whole), strict=True):
        wanted = {key: value for key, value in theirs.items() if key in COMPARED or key.startswith("rollout/stage")}
        assert wanted.keys() >= set(COMPARED)
        assert {key: ours.get(key) for key in wanted} == pytest.approx(wanted, rel=1e-3, abs=1e-5), (
            f"step {ours['step']}"
        )
        assert of_stage(ours, "samples") == of_stage(theirs, "samples")
    states = [read_state(latest_checkpoint(path / "checkpoints")) for path in (killed, whole)]
    assert states[0] == states[1]
    assert states[0]["stream"]["schedule"]
    for checkpoint in checkpoints(killed / "checkpoints"):
        assert {path.name for path in checkpoint.iterdir()} >= {"policy", "critic", "trainer.json"}
    assert (killed / "model" / "model.safetensors").exists()
