"""`evaluate` on the real stack: two models in one engine start, each answering as itself; a killed engine, then --resume.

One process runs both commands (`jobs`), so Ray and the imports are paid for once. The engine is killed from outside in the first.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

PROBLEMS, NEW_TOKENS = 40, 16
CHECKED = 6
MODELS = ("first", "second")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two random models of one shape; tied embeddings, the case in which weights are lost most easily."""
    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    folders = {}
    for seed, name in enumerate(MODELS):
        folders[name] = tmp_path_factory.mktemp("models") / name
        build_tiny_model(folders[name], task="game24", layers=2, hidden=64, heads=2, context=128, seed=seed)
    return folders


@pytest.fixture(scope="module")
def evaluation(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Runs the command, kills its engine after a few answers, resumes it: the folder, rows before the resume, what was printed."""
    folder = tmp_path_factory.mktemp("evaluation")
    out = folder / "out"
    words = " ".join(f"{name}={path}" for name, path in models.items())
    command = f"evaluate --model {words} --suite game24 --limit {PROBLEMS} --max-new-tokens {NEW_TOKENS} --wave 2 --samples 1 --out {out}"
    jobs = folder / "commands.jobs"
    jobs.write_text(f"{command}\n{command} --resume\n")
    log = folder / "log"
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    environment.pop("RAY_ADDRESS", None)
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "openrlhf_ext", "jobs", "--keep-going", str(jobs)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            kept = kill_engine_after(process, out / MODELS[0] / "results.jsonl", rows=6)
            process.wait(timeout=400)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return {"out": out, "before": kept, "log": log.read_text(), "code": process.returncode}


def kill_engine_after(process: subprocess.Popen, file: Path, rows: int) -> list[dict]:
    """SIGKILL this process's engine once ``rows`` answers are on disk; returns the whole lines that were there."""
    import psutil

    deadline = time.monotonic() + 300
    while not file.exists() or file.read_bytes().count(b"\n") < rows:
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail("the evaluation wrote no answers")
        time.sleep(0.02)
    found = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "RolloutEngine" in " ".join(child.cmdline())
    ]
    engines = [child for child in found if child.parent() not in found]  # not the engine core, which is its fork
    assert len(engines) == 1, f"one engine was expected, found {engines}"
    engines[0].kill()
    engines[0].wait(timeout=30)
    return [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]


def rows_of(evaluation: dict, name: str) -> list[dict]:
    return [json.loads(line) for line in (evaluation["out"] / name / "results.jsonl").read_text().splitlines()]


def test_the_killed_command_says_how_to_go_on(evaluation: dict):
    assert evaluation["code"] == 1, evaluation["log"]  # of the first job; the second ended with 0
    assert "job 1: exit code 1" in evaluation["log"] and "--resume" in evaluation["log"]
    assert "job 2: exit code 0" in evaluation["log"]


def test_every_problem_is_answered_once_by_each_model(evaluation: dict):
    for name in MODELS:
        rows = rows_of(evaluation, name)
        assert sorted(row["problem_id"] for row in rows) == list(range(PROBLEMS))
        assert all(row["mode"] == "greedy" and 1 <= row["tokens"] <= NEW_TOKENS for row in rows)
        assert {"reward", "correct", "parsed", "metrics", "truncated", "text", "prompt", "label"} <= rows[0].keys()


def test_answers_from_before_the_kill_are_kept(evaluation: dict):
    before, after = evaluation["before"], rows_of(evaluation, MODELS[0])
    assert 6 <= len(before) < PROBLEMS, "the kill came too late to show anything"
    assert after[: len(before)] == before


def test_two_models_shared_one_engine_start(evaluation: dict):
    second_job = evaluation["log"].split("job 2 of 2")[1]
    assert "(models: 2, engine starts: 1)" in second_job


def test_each_model_answers_as_itself(evaluation: dict, models: dict[str, Path]):
    """Greedy texts equal Hugging Face's for both, so the exchange inside the engine left nothing of the first model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts: dict[str, list[str]] = {}
    for name, folder in models.items():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        rows = sorted(rows_of(evaluation, name), key=lambda row: row["problem_id"])[:CHECKED]
        texts[name] = [row["text"] for row in rows]
        for row in rows:
            tokens = tokenizer(row["prompt"], return_tensors="pt", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                answer = model.generate(
                    tokens,
                    max_new_tokens=NEW_TOKENS,
                    min_new_tokens=1,
                    do_sample=False,
                    pad_token_id=tokenizer.pad_token_id,
                )
            assert tokenizer.decode(answer[0, tokens.shape[1] :], skip_special_tokens=True) == row["text"]
    assert texts["first"] != texts["second"], "two models that answer alike show nothing"


def test_figures_and_table_are_written(evaluation: dict):
    figures = json.loads((evaluation["out"] / "summary.json").read_text())
    assert set(figures["models"]) == set(MODELS) and set(figures["against_first"]) == {"second"}
    assert figures["models"]["first"]["count"] == PROBLEMS
    table = (evaluation["out"] / "summary.md").read_text()
    assert "accuracy (40)" in table and "against first" in table
    assert table in evaluation["log"]
