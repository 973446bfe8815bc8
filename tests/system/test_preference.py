"""Preference training as a user runs it: dpo, kto and rm on the real stack, two ranks like one, and a kill that changes nothing.

`whole`, `ranks`, `kto` and `rm` are jobs of one process; `killed` is a run of two. Cost: three starts without engines, about 70 s on 2 idle cores.
"""

from __future__ import annotations

import math
import shlex
import signal
from pathlib import Path

import pytest

from openrlhf_ext.checkpoint import checkpoints
from openrlhf_ext.record.run_dir import read_events
from tests.system.toy import Job, as_words, environment, rows_of, write_rows

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

PAIRS, BATCH, EPOCHS = 34, 8, 3
STEPS = PAIRS // BATCH * EPOCHS


def pair(i: int) -> dict:
    """A step that goes on against a wrong one, as Self-Explore has them: the wrong one ends nothing."""
    good, wrong = f"{i}+{i % 7}={i + i % 7}\n#### {i + i % 7}", f"{i}-{i % 7}={abs(i - i % 7)}\n"
    return {"prompt": f"{i}+{i % 7} mod 100\n", "chosen": good, "rejected": wrong, "meta": {"problem_id": i}}


def words(toy, method: str, directory: Path, data: Path, **settings: object) -> list[str]:
    plain = {
        "run.dir": directory,
        "run.seed": 3,
        "run.tensorboard": False,
        "model.model_name_or_path": toy.model,
        "data.dataset": data / "pairs.jsonl",
        "eval.dataset": data / "held_out.jsonl",
        "data.max_len": 48,
        "adam.lr": 1e-3,
        "lr_scheduler": "linear",
        "lr_warmup_ratio": 0,
        "train.max_epochs": EPOCHS,
        "train.batch_size": BATCH,
        "train.micro_batch_size": BATCH // 2,
        "ckpt.save_steps": 3,
        "ckpt.max_num": 1,
    }
    return ["train", method, *as_words(plain | {key.replace("__", "."): value for key, value in settings.items()})]


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preference")
    half_written = write_rows(folder / "pairs.jsonl", [pair(i) for i in range(PAIRS)])
    with half_written.open("a") as file:
        file.write('{"prompt": "1+1 mod 1')
    write_rows(folder / "held_out.jsonl", [pair(i) for i in range(50, 58)])
    cached = {"preference__reference": "cached"}
    jobs = [
        words(toy, "self-explore", folder / "whole", folder, **cached),
        words(toy, "dpo", folder / "ranks", folder, run__ranks_per_node=2, ds__zero_stage=3),
        words(toy, "kto", folder / "kto", folder, **cached, train__max_epochs=2),
        words(toy, "rm", folder / "rm", folder),
    ]
    killed = words(toy, "self-explore", folder / "killed", folder, **cached)
    job = Job(killed, folder / "killed.log", environment())
    try:
        job.until(lambda: len(rows_of(folder / "killed")) > STEPS // 2 + 1, "step in the second half", every=0.002)
    finally:
        job.signal(signal.SIGKILL)
        job.process.wait()
    assert [path.name for path in checkpoints(folder / "killed" / "checkpoints")][-1] < f"step_{STEPS:06d}"
    (folder / "all.jobs").write_text("\n".join(shlex.join(job) for job in jobs))
    for command in (["jobs", str(folder / "all.jobs")], [*killed, "--resume"]):
        job = Job(command, folder / f"{command[0]}.log", environment())
        assert job.wait() == 0, job.output()[-5000:]
    return folder


def steps(rows: list[dict]) -> list[dict]:
    return [row for row in rows if "train/loss" in row]


def test_a_run_of_dpo_is_complete_starts_at_log_2_and_learns(runs: Path) -> None:
    run = runs / "whole"
    for file in ("config.yaml", "plan.json", "report.html", "reference.safetensors", "model/config.json"):
        assert (run / file).stat().st_size > 0, file
    rows = rows_of(run)
    assert [row["step"] for row in rows] == list(range(STEPS + 1))
    first, last = steps(rows)[0], rows[-1]
    assert first["train/loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert last["train/loss"] < 0.8 * math.log(2) and last["train/accuracy"] == 1
    assert rows[0]["eval/loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert last["eval/accuracy"] == 1 and last["eval/reward_margin"] > 0
    assert first["train/lr"] > last["train/lr"] >= 0, "the schedule ends with the last update"
    assert last["train/tokens_total"] > STEPS * BATCH * 2 * 10
    assert "Preference accuracy" in (run / "report.html").read_text()
    assert [event["kind"] for event in read_events(run)] == ["start", "finish"]


def test_the_trained_model_likes_the_pit_less(runs: Path, toy) -> None:
    assert likes_pits(runs / "whole" / "model") < likes_pits(toy.model) - 1, "in nats, on new prompts"


def likes_pits(model: Path) -> float:
    """Mean of log P(pit) - log P(chosen) on prompts that were not trained on, no end token for the pit."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    total = 0.0
    for row in map(pair, range(60, 66)):
        for sign, side in ((1, row["rejected"]), (-1, row["chosen"] + tokenizer.eos_token)):
            prompt = len(tokenizer(row["prompt"], add_special_tokens=False)["input_ids"])
            ids = tokenizer(row["prompt"] + side, add_special_tokens=False, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                found = network(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])
            total += sign * found[prompt - 1 :].sum().item()
    return total / 6


def test_a_killed_run_ends_as_an_uninterrupted_one(runs: Path) -> None:
    from safetensors.torch import load_file

    killed, whole = runs / "killed", runs / "whole"
    kinds = [event["kind"] for event in read_events(killed)]
    assert (kinds.count("start"), kinds.count("resume"), kinds[-1]) == (1, 1, "finish")
    assert [row["step"] for row in rows_of(killed)] == list(range(STEPS + 1))
    for ours, theirs in zip(rows_of(killed), rows_of(whole), strict=True):
        for key in (key for key in theirs if key.startswith(("train/", "eval/"))):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-4), f"step {ours['step']} {key}"
    one, two = (load_file(run / "model" / "model.safetensors") for run in (killed, whole))
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-5
    assert len(checkpoints(killed / "checkpoints")) == 1


def test_two_ranks_with_a_reference_model_make_the_updates_of_one(runs: Path) -> None:
    for ours, theirs in zip(steps(rows_of(runs / "ranks")), steps(rows_of(runs / "whole")), strict=True):
        for key in ("train/loss", "train/accuracy", "train/reward_margin", "train/lr"):
            assert ours[key] == pytest.approx(theirs[key], rel=2e-2, abs=2e-3), f"step {ours['step']} {key}"
        assert ours["train/grad_norm"] > 0


def test_kto_takes_the_same_file_and_parts_its_sides(runs: Path) -> None:
    rows = steps(rows_of(runs / "kto"))
    assert [row["step"] for row in rows] == list(range(1, 2 * PAIRS // BATCH * 2 + 1))
    assert rows[0]["train/loss"] == pytest.approx(0.5, abs=1e-4)
    assert rows[-1]["train/reward_good"] > rows[-1]["train/reward_bad"]
    assert rows[-1]["eval/loss"] < 0.5


def test_a_reward_model_is_saved_with_its_head_and_tells_the_sides_apart(runs: Path) -> None:
    import json

    from openrlhf_ext.upstream.value_head import stores_head

    rows = rows_of(runs / "rm")
    assert rows[-1]["train/loss"] < steps(rows)[0]["train/loss"]
    assert rows[-1]["eval/accuracy"] == 1 and "eval/reward_margin" in rows[0]
    assert stores_head(str(runs / "rm" / "model"), "score")
    config = json.loads((runs / "rm" / "model" / "config.json").read_text())
    assert config["std"] > 0 and config["value_head_prefix"] == "score"
