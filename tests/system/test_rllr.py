"""RLLR-mixed through Ray, vLLM and DeepSpeed: two reward models score what the policy wrote, a critic that starts from one of them, and a run
that is killed and goes on.

Both reward models are small torch fits, saved as `train rm` saves them. Sampling in the two runs that are compared is deterministic (a
nucleus of one token). Cost: two starts, about 90 s on 2 idle cores.
"""

from __future__ import annotations

import json
import random
import shlex
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from openrlhf_ext.checkpoint import latest_checkpoint, read_state
from openrlhf_ext.data.labels import answer_text
from openrlhf_ext.record.run_dir import read_events
from openrlhf_ext.tasks.labels.toy import ToyItem, make_items, rationale
from tests.system.toy import Job, as_words, environment, rows_of, write_rows

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

KINDS = ("animal", "colour", "food")
BATCH, STEPS, TAU = 32, 6, 1.0
COMPARED = (
    *("rollout/reward_mean", "rollout/label_score", "rollout/rationale_score", "rollout/label_capped_share"),
    *("rollout/samples_total", "rollout/tokens_total", "train/policy_loss", "train/grad_norm", "train/critic_loss"),
    *("train/value_mean", "train/reward_moment_mean", "train/reward_moment_std", "train/kl_coefficient"),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`policy` answers in the form, right or wrong; `label` and `rationale` were shown 600 pairs each."""
    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("rllr")
    build_tiny_model(folder / "policy", task="label-toy", layers=2, hidden=64, heads=2, context=64, seed=1)
    items = make_items(96, labels=3, length=3, rng=random.Random(0))
    labels = [json.dumps({"label": item.label, "word": item.word}) for item in items]
    rows = [{"input": prompt(i), "label": label, "datasource": "toy"} for i, label in zip(items, labels, strict=True)]
    write_rows(folder / "prompts.jsonl", rows[:64])
    write_rows(folder / "dev.jsonl", rows[64:])
    answer_in_the_form(folder / "policy", items)
    for role in ("label", "rationale"):
        reward_model(folder, role, items)
    return folder


def prompt(item: ToyItem) -> str:
    return f"What kind of thing?\n{item.words}\n"


def answer_in_the_form(model: Path, items: Sequence[ToyItem]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    chance = random.Random(0)
    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(80):
        some = chance.choices(items, k=16)
        texts = [
            prompt(i) + answer_text(rationale(i, chance.random() < 0.5, chance), chance.choice(KINDS)) for i in some
        ]
        batch = tokenizer([text + tokenizer.eos_token for text in texts], return_tensors="pt", padding=True)
        wanted = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=wanted).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    network.save_pretrained(model)


def reward_model(folder: Path, role: str, items: Sequence[ToyItem]) -> None:
    import torch
    from openrlhf.models import get_llm_for_sequence_regression
    from transformers import AutoTokenizer

    chance = random.Random(role)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    model = get_llm_for_sequence_regression(
        str(folder / "policy"), "reward", param_dtype="float32", attn_implementation="sdpa", init_value_head=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        sides: list[list[str]] = [[], []]
        for item in chance.choices(items, k=12):
            for side, good in enumerate((True, False)):
                right = good if role == "label" else chance.random() < 0.5
                fine = good if role == "rationale" else chance.random() < 0.5
                kind = item.label if right else chance.choice([k for k in KINDS if k != item.label])
                text = answer_text(rationale(item, fine, chance), kind)
                sides[side].append(prompt(item) + text + tokenizer.eos_token)
        batch = tokenizer(sides[0] + sides[1], return_tensors="pt", padding=True)
        scores = model(batch["input_ids"], attention_mask=batch["attention_mask"])
        (-torch.nn.functional.logsigmoid(scores[:12] - scores[12:]).mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.config.value_head_prefix = "score"  # as the program does before it saves
    model.save_pretrained(folder / role)
    tokenizer.save_pretrained(folder / role)


def words(models: Path, directory: Path, **settings: object) -> list[str]:
    """Words of an rllr run of one update of 32 short answers a step."""
    plain = {
        "run.dir": directory,
        "run.seed": 3,
        "run.tensorboard": False,
        "task.name": "label-toy",
        "rllr.label_model": models / "label",
        "rllr.rationale_model": models / "rationale",
        "rllr.tau": TAU,
        "rllr.kl_target": 0.5,
        "rllr.max_steps": STEPS,
        "actor.model_name_or_path": models / "policy",
        "actor.adam.lr": 1e-3,
        "actor.lr_scheduler": "constant",
        "actor.lr_warmup_ratio": 0,
        "critic.adam.lr": 1e-3,
        "critic.lr_scheduler": "constant",
        "critic.lr_warmup_ratio": 0,
        "algo.kl.init_coef": 0.05,
        "data.prompt_dataset": models / "prompts.jsonl",
        "data.max_len": 48,
        "rollout.batch_size": BATCH,
        "rollout.micro_batch_size": 8,
        "rollout.max_new_tokens": 10,
        "train.batch_size": BATCH,
        "train.micro_batch_size": BATCH,
    }
    return ["train", "rllr", *as_words(plain | {key.replace("__", "."): value for key, value in settings.items()})]


@pytest.fixture(scope="module")
def runs(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`mixed`, killed once, `whole`, never interrupted, and one step of `label` and of `sampled`, mixed at temperature 1."""
    folder = tmp_path_factory.mktemp("rllr-runs")
    same = {"rollout__top_p": 1e-6, "ckpt__save_steps": 2, "ckpt__max_num": 2}
    killed, whole = (words(models, folder / name, **same) for name in ("mixed", "whole"))
    heldout = {"eval__dataset": models / "dev.jsonl", "eval__steps": 1}
    label = words(models, folder / "label", rllr__reward="label", rllr__max_steps=1, **heldout)
    sampled = words(models, folder / "sampled", rllr__max_steps=1)
    started: list[Job] = []

    def start(jobs: Sequence[Sequence[str]]) -> Job:
        file = folder / f"{len(started)}.jobs"
        file.write_text("\n".join(map(shlex.join, jobs)))
        started.append(Job(["jobs", str(file)], file.with_suffix(".log"), environment()))
        return started[-1]

    def last_step() -> int:
        rows = rows_of(folder / "mixed")
        return int(rows[-1]["step"]) if rows else 0

    try:
        first = start([killed])
        first.until(lambda: last_step() >= 3, "third step of mixed")
        first.signal(signal.SIGKILL)
        first.wait()
        second = start([[*killed, "--resume"], whole, sampled, label])
        assert second.wait(1200) == 0, second.output()[-6000:]
        yield folder
    finally:
        for job in started:
            if job.process.poll() is None:
                job.signal(signal.SIGKILL)
                job.process.wait()


def trained(directory: Path) -> list[dict]:
    return [row for row in rows_of(directory) if row["step"] > 0]


def rollouts(directory: Path, step: int = 1) -> list[dict]:
    text = (directory / "rollouts" / f"step_{step:06d}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_the_reward_is_the_capped_label_score_and_the_rationale_score(runs: Path) -> None:
    rows = rollouts(runs / "sampled")
    assert len(rows) == BATCH
    for row in rows:
        label, prose = row["extra_logs"]["label_score"], row["extra_logs"]["rationale_score"]
        assert row["reward"] == pytest.approx(min(label, TAU) + prose, abs=1e-4)
        assert row["extra_logs"]["label_accuracy"] == row["scores"]
    capped = sum(row["extra_logs"]["label_score"] > TAU for row in rows) / BATCH
    assert trained(runs / "sampled")[0]["rollout/label_capped_share"] == pytest.approx(capped)
    assert len({row["reward"] for row in rows}) > 4


def test_workers_score_the_token_ids_that_the_policy_wrote(runs: Path, models: Path) -> None:
    from openrlhf_ext.evaluate.reward_model import load_reward_model, score

    rows = rollouts(runs / "sampled")
    for role in ("label", "rationale"):
        again = score(load_reward_model(models / role, "cpu"), [row["observation_tokens"] for row in rows], pad=0)
        assert [row["extra_logs"][f"{role}_score"] for row in rows] == pytest.approx(again, abs=1e-3)


def test_the_first_update_begins_at_ratio_one(runs: Path) -> None:
    for directory in ("sampled", "whole"):
        for row in trained(runs / directory):
            assert abs(row["train/ppo_kl"]) < 1e-5 and row["train/clip_ratio"] == 0.0, "one update per step"
            assert row["health/synced_tensors"] > 10
    assert trained(runs / "sampled")[0]["health/logprob_gap_max"] < 1e-3


def test_two_reward_models_are_in_the_plan_and_the_critic_learns(runs: Path) -> None:
    plan = json.loads((runs / "whole" / "plan.json").read_text())
    names = ["actor", "critic", "ref", "label_reward", "rationale_reward"]
    assert [group["name"] for group in plan["groups"]] == names
    rows = trained(runs / "whole")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(row["train/critic_grad_norm"] > 0 and row["train/grad_norm"] > 0 for row in rows)
    assert rows[0]["train/kl_coefficient"] == 0.05 and rows[1]["train/kl_coefficient"] != 0.05


def test_one_model_is_enough_for_its_arm_and_the_verifier_is_heard(runs: Path) -> None:
    rows = rows_of(runs / "label")
    assert [group["name"] for group in json.loads((runs / "label" / "plan.json").read_text())["groups"]][3:] == [
        "label_reward"
    ]
    assert "rollout/rationale_score" not in rows[-1]
    for row in rollouts(runs / "label"):
        assert row["reward"] == row["extra_logs"]["label_score"] != row["scores"]
    assert {row["step"] for row in rows if "eval/label-toy/accuracy" in row} == {0, 1}
    assert (runs / "label" / "model" / "model.safetensors").exists()


def test_a_killed_run_goes_on_where_it_was(runs: Path) -> None:
    killed, whole = runs / "mixed", runs / "whole"
    kinds = [event["kind"] for event in read_events(killed)]
    assert (kinds.count("start"), kinds.count("resume"), kinds[-1]) == (1, 1, "finish")
    for ours, theirs in zip(trained(killed), trained(whole), strict=True):
        wanted = {key: theirs[key] for key in COMPARED}
        assert {key: ours[key] for key in wanted} == pytest.approx(wanted, rel=1e-3, abs=1e-5), f"step {ours['step']}"
    states = [read_state(latest_checkpoint(path / "checkpoints")) for path in (killed, whole)]
    assert states[0]["method"]["moments"]["count"] == BATCH * STEPS
    assert states[0]["method"]["moments"] == pytest.approx(states[1]["method"]["moments"], rel=1e-3)
    assert states[0]["stream"] == states[1]["stream"]
