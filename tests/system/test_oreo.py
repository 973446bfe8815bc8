"""`train oreo` as a user runs it: it learns from failures, a kill changes nothing, and log-probs of the reference are computed once.

`whole`, `steps`, `again` and `adapted` are jobs of one process; `killed` is a run of two. Cost: three starts without engines, about 60 s on 2
idle cores.
"""

from __future__ import annotations

import shlex
import signal
from pathlib import Path

import pytest

from openrlhf_ext.checkpoint import checkpoints
from openrlhf_ext.cli import main
from openrlhf_ext.record.run_dir import read_events
from tests.system.toy import PROMPTS, Job, as_words, chain_row, environment, rows_of, write_rows

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

EPOCHS, BATCH, SAMPLES = 4, 32, 8
ROWS = PROMPTS * SAMPLES
STEPS = EPOCHS * ROWS // BATCH
GOOD, BAD = "#### {}", "{}+{}="


def answers(prompt: str) -> list[dict]:
    """Half of the samples end with a number, as the model does in about half of its own."""
    return [
        {
            "prompt": prompt,
            "response": (GOOD if i % 2 else BAD).replace("{}", str((i + len(prompt)) % 10)),
            "reward": i % 2,
        }
        for i in range(SAMPLES)
    ]


def words(toy, directory: Path, data: Path, **settings: object) -> list[str]:
    plain = {
        "run.dir": directory,
        "run.seed": 3,
        "run.tensorboard": False,
        "task.name": "chain",
        "oreo.beta": 0.1,
        "actor.model_name_or_path": toy.model,
        "actor.adam.lr": 3e-3,
        "actor.lr_warmup_ratio": 0,
        "critic.adam.lr": 1e-3,
        "critic.lr_warmup_ratio": 0,
        "data.prompt_dataset": data,
        "data.max_len": 32,
        "train.batch_size": BATCH,
        "train.micro_batch_size": BATCH // 2,
        "train.max_epochs": EPOCHS,
        "ckpt.save_steps": 5,
        "ckpt.max_num": 2,
    }
    return ["train", "oreo", *as_words(plain | {key.replace("__", "."): value for key, value in settings.items()})]


def sampled(folder: Path) -> dict[str, object]:
    return {
        "oreo__level": "step",
        "oreo__regulariser": "sampled",
        "oreo__reference_cache": folder / "reference.safetensors",
        "oreo__max_steps": 4,
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [row for i in range(PROMPTS) for row in answers(str(chain_row(i)["input"]))]
    cut_off = {"prompt": "1+1 mod 100\n", "text": "1+1=", "reward": 0, "truncated": True}
    return write_rows(tmp_path_factory.mktemp("oreo") / "trajectories.jsonl", [*rows, cut_off])


@pytest.fixture(scope="module")
def runs(toy, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whole`, never interrupted; `killed`, killed in its second half and gone on with; `steps` and `again`, which share a cache; `adapted`,
    whose value network is trained by LoRA."""
    folder = tmp_path_factory.mktemp("oreo-runs")
    whole = words(toy, folder / "whole", data)
    steps, again = (words(toy, folder / name, data, **sampled(folder)) for name in ("steps", "again"))
    lora = {"oreo__critic_lora_rank": 4, "critic__adam__lr": 3e-2, "oreo__max_steps": 6}
    adapted = words(toy, folder / "adapted", data, **lora)
    killed = words(toy, folder / "killed", data)
    job = Job(killed, folder / "killed.log", environment())
    try:
        job.until(lambda: len(rows_of(folder / "killed")) > STEPS // 2 + 1, "step in the second half")
    finally:
        job.signal(signal.SIGKILL)
        job.process.wait()
    assert [path.name for path in checkpoints(folder / "killed" / "checkpoints")][-1] < f"step_{STEPS:06d}"
    (folder / "all.jobs").write_text("\n".join(shlex.join(job) for job in (whole, steps, again, adapted)))
    for command in (["jobs", str(folder / "all.jobs")], [*killed, "--resume"]):
        job = Job(command, folder / f"{command[0]}.log", environment())
        assert job.wait() == 0, job.output()[-5000:]
    return folder


def test_the_value_loss_falls_and_values_tell_success_from_failure(runs: Path) -> None:
    rows = rows_of(runs / "whole")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    first, last = rows[0], rows[-1]
    assert first["train/value_loss"] == pytest.approx(first["train/reward_mean"]), "V is 0: the loss is the mean of R^2"
    assert first["train/kl"] == pytest.approx(0, abs=1e-5)
    assert last["train/value_loss"] < 0.3 * first["train/value_loss"]
    assert last["train/value_success"] > last["train/value_failure"] + 0.3
    assert last["train/log_ratio_success"] > last["train/log_ratio_failure"] + 1
    assert last["train/lr"] < 0.02 * first["train/lr"], "the schedule ends with the last pass, not before or after"
    assert last["train/epoch"] == EPOCHS
    assert last["train/tokens_total"] == EPOCHS * rows[5]["train/tokens_total"], "one pass is 6 steps"


def test_the_policy_prefers_successes_more_than_its_start_did(runs: Path, toy) -> None:
    before, after = preference(toy.model), preference(runs / "whole" / "model")
    assert after > before + 1, "in nats, on prompts that were not trained on"


def preference(model: Path) -> float:
    """log of how much likelier an answer with a number is than one without, on new prompts."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    total = {GOOD: 0.0, BAD: 0.0}
    with torch.no_grad():
        for i in range(50, 58):
            prompt = tokenizer(str(chain_row(i)["input"]), add_special_tokens=False)["input_ids"]
            for form in total:
                ids = torch.tensor([prompt + tokenizer(form[:2], add_special_tokens=False)["input_ids"][:1]])
                if form == BAD:  # any digit begins a failure
                    ids[0, -1] = tokenizer("7", add_special_tokens=False)["input_ids"][0]
                log_p = network(ids).logits[0, -2].log_softmax(-1)
                total[form] += log_p[ids[0, -1]].item() / 8
    return total[GOOD] - total[BAD]


def test_the_value_network_is_saved_in_a_form_that_can_be_read(runs: Path, toy) -> None:
    import torch
    from transformers import AutoTokenizer

    from openrlhf_ext.upstream.value_head import load_value_model

    value, tokenizer = load_value_model(str(runs / "whole" / "value")), AutoTokenizer.from_pretrained(toy.model)

    def of(text: str) -> float:
        ids = torch.tensor(
            [[*tokenizer(text, add_special_tokens=False)["input_ids"], 0]]
        )  # the last position is dropped
        return value(ids, torch.ones_like(ids[:, 1:]), torch.ones_like(ids))[0, -1].item()

    prompt = str(chain_row(50)["input"])
    assert of(prompt + "#### 7") > of(prompt + "7+7=") + 0.3


def test_an_adapted_value_network_learns_and_is_saved_whole(runs: Path, toy) -> None:
    from safetensors.torch import load_file

    from openrlhf_ext.upstream.value_head import load_value_model

    rows = rows_of(runs / "adapted")
    assert rows[0]["train/value_loss"] == pytest.approx(rows[0]["train/reward_mean"]), "V begins at 0"
    assert rows[-1]["train/value_loss"] < 0.9 * rows[0]["train/value_loss"]
    ours, plain = (load_file(runs / run / "value" / "model.safetensors") for run in ("adapted", "whole"))
    assert ours.keys() == plain.keys() and ours["score.weight"].any(), "no adapter is left beside the weights"
    start = load_file(toy.model / "model.safetensors")
    (frozen,) = (key for key in ours if key.endswith("embed_tokens.weight"))
    assert ours[frozen].equal(start[frozen]), "what LoRA does not reach stays"
    load_value_model(str(runs / "adapted" / "value"))


def test_a_killed_run_ends_where_the_whole_one_does(runs: Path) -> None:
    from safetensors.torch import load_file

    for name in ("model", "value"):
        ours, theirs = (load_file(runs / run / name / "model.safetensors") for run in ("killed", "whole"))
        assert ours.keys() == theirs.keys()
        assert max((ours[key] - theirs[key]).abs().max().item() for key in theirs) < 1e-6, name
    assert [e["kind"] for e in read_events(runs / "killed")].count("resume") == 1
    assert [row["step"] for row in rows_of(runs / "killed")] == list(range(1, STEPS + 1))


def test_what_was_left_out_is_counted(runs: Path) -> None:
    (event,) = [event for event in read_events(runs / "whole") if event["kind"] == "data"]
    assert (event["usable"], event["dropped"]) == (ROWS, {"truncated": 1})


def test_log_probs_of_the_reference_are_computed_once(runs: Path) -> None:
    log = (runs / "jobs.log").read_text()
    assert log.count("log-probs of the reference ...") == 1, "`again` found those of `steps`"
    steps, again = rows_of(runs / "steps"), rows_of(runs / "again")
    assert len(steps) == 4 and steps[0]["train/kl"] == pytest.approx(0, abs=1e-5)
    assert steps[-1]["train/kl"] > 0
    assert [row["train/policy_loss"] for row in again] == pytest.approx([row["train/policy_loss"] for row in steps])


def test_the_cache_of_another_model_is_refused(
    runs: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, toy
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    request = words(toy, tmp_path / "run", data, **sampled(runs), actor__model_name_or_path=runs / "whole" / "model")
    assert main(request) == 2
    assert "made with another model" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
