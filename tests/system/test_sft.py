"""The SFT program on one and on two ranks: a complete run directory, a model that learnt, and the same run on both layouts; with LoRA; killed.

All but the killed run are jobs of one process. Cost: about 100 s on 2 idle cores.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_ext.checkpoint import checkpoints
from openrlhf_ext.record.run_dir import read_events
from tests.system.toy import Job, environment, rows_of, write_rows

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

LAYOUTS = {"one": 1, "two": 2}
LONG = {"train__max_epochs": 8, "ckpt__save_steps": 2, "ckpt__max_num": 1}
LONG_STEPS = 24


@pytest.fixture(scope="module")
def sft(toy, tmp_path_factory) -> Path:
    """The folder of a run on one rank, a run on two, a run of LoRA merged into its base, and a long run, whole and killed once."""
    folder = tmp_path_factory.mktemp("sft")
    rows = [
        {"input": f"{i}+{i % 7} mod 100\n", "output": f"{i}+{i % 7}={i + i % 7}\n#### {i + i % 7}"} for i in range(24)
    ]
    data = write_rows(folder / "data.jsonl", rows)
    killed = toy.sft(folder / "killed", data, **LONG)
    job = Job([str(word) for word in killed], folder / "killed.log", environment())
    try:
        job.until(lambda: len(rows_of(folder / "killed")) > LONG_STEPS // 2, "step in the second half", every=0.002)
    finally:
        job.signal(signal.SIGKILL)
        job.process.wait()
    assert checkpoints(folder / "killed" / "checkpoints")[-1].name < f"step_{LONG_STEPS:06d}"
    jobs = [toy.sft(folder / name, data, run__ranks_per_node=ranks) for name, ranks in LAYOUTS.items()]
    jobs += [[*killed, "--resume"], toy.sft(folder / "whole", data, **LONG)]
    jobs.append(toy.sft(folder / "lora", data, ds__lora__rank=4, ds__lora__alpha=8))
    jobs.append(
        ["merge", "--base", toy.model, "--adapter", folder / "lora" / "model", "--out", folder / "merged"],
    )
    jobs = [[str(word) for word in words] for words in jobs]
    (folder / "all.jobs").write_text("\n".join(shlex.join(words) for words in jobs))
    with open(folder / "log", "w") as log:
        words = [sys.executable, "-m", "openrlhf_ext", "jobs", str(folder / "all.jobs")]
        code = subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, env=environment(), timeout=1400).returncode
    assert code == 0, (folder / "log").read_text()[-6000:]
    return folder


def mean_distance(one: dict, other: dict) -> float:
    """Mean absolute difference of two state dicts over all their weights."""
    return sum((one[name] - other[name]).abs().sum().item() for name in one) / sum(one[name].numel() for name in one)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_run_directory_is_complete_and_the_loss_falls(sft: Path, name: str) -> None:
    run = sft / name
    for file in (
        "config.yaml",
        "plan.json",
        "metrics.jsonl",
        "events.jsonl",
        "report.html",
        "model/config.json",
        "model/tokenizer.json",
    ):
        assert (run / file).stat().st_size > 0, file
    rows = [row for row in rows_of(run) if "train/loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 7))
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    assert rows[-1]["train/tokens_total"] > 6 * 8 * 10
    assert [event["kind"] for event in read_events(run)] == ["start", "finish"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_model_can_be_loaded_and_is_another_one(sft: Path, toy, name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(sft / name / "model")
    tokenizer = AutoTokenizer.from_pretrained(sft / name / "model")
    assert (
        tokenizer("1+2 mod 100\n")["input_ids"]
        == AutoTokenizer.from_pretrained(toy.model)("1+2 mod 100\n")["input_ids"]
    )
    before = AutoModelForCausalLM.from_pretrained(toy.model)
    moved = [(a - b).abs().max().item() for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    assert min(moved) > 0


def test_two_ranks_see_the_batches_of_one_and_end_with_the_same_model(sft: Path) -> None:
    from safetensors.torch import load_file

    one, two = (load_file(sft / name / "model" / "model.safetensors") for name in LAYOUTS)
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-3
    losses = [[row["train/loss"] for row in rows_of(sft / name) if "train/loss" in row] for name in LAYOUTS]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_a_lora_run_trains_the_adapter_alone_and_merges_into_its_base(sft: Path, toy) -> None:
    from safetensors.torch import load_file

    adapter = load_file(sft / "lora" / "model" / "adapter_model.safetensors")
    assert adapter and all("lora_" in name for name in adapter)
    rows = [row for row in rows_of(sft / "lora") if "train/loss" in row]
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    base, merged = (load_file(folder / "model.safetensors") for folder in (toy.model, sft / "merged"))
    assert base.keys() == merged.keys()
    moved = {name for name in base if not base[name].equal(merged[name])}
    assert moved and all(name.endswith("_proj.weight") for name in moved), "only linear layers carry the adapter"


def test_a_killed_run_ends_as_an_uninterrupted_one(sft: Path) -> None:
    from safetensors.torch import load_file

    killed, whole = sft / "killed", sft / "whole"
    kinds = [event["kind"] for event in read_events(killed)]
    assert (kinds.count("start"), kinds.count("resume"), kinds[-1]) == (1, 1, "finish")
    ours, theirs = ([row for row in rows_of(run) if "train/loss" in row] for run in (killed, whole))
    assert [row["step"] for row in ours] == list(range(1, LONG_STEPS + 1))
    for key in ("train/loss", "train/lr"):
        assert [row[key] for row in ours] == pytest.approx([row[key] for row in theirs], rel=1e-3, abs=1e-6), key
    # Means: processes may round differently from the first batch on, and where a gradient is next to nothing, Adam makes whole steps
    # of that (6e-3 in one weight of 100,000 was seen, where the mean was 4e-6). Each of the 24 steps moves the mean by 6e-4 to 2e-3.
    ours, theirs, other = (load_file(run / "model" / "model.safetensors") for run in (killed, whole, sft / "one"))
    assert mean_distance(ours, theirs) < 5e-5
    assert mean_distance(other, theirs) > 1e-3, "fewer steps are another model"
    assert [path.name for path in checkpoints(killed / "checkpoints")] == [f"step_{LONG_STEPS:06d}"]
