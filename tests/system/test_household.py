"""An agent on the real stack: a tiny model plays households in the engines, OREO takes a step on its episodes, an evaluation counts them.

Three jobs of one process. Cost: two engine starts and one start of OREO's workers, about 70 s on 2 idle cores.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from openrlhf_ext.data.trajectory import read_trajectories
from openrlhf_ext.record.run_dir import read_events, read_metrics
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.environment import turns_of
from openrlhf_ext.tasks.household.generate import Shape, generate
from openrlhf_ext.tasks.household.toy import ToyHousehold
from openrlhf_ext.tasks.household.walk import oracle_walk
from tests.system.toy import Job, as_words, environment, write_rows

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

KNOWN, STRANGE, SAMPLES, TURNS = 6, 4, 4, 8
TASK = {"task.name": "household", "task.instruction": "none", "task.max_turns": TURNS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a collection, a run and an evaluation. Some problems were learned by heart, so that some episodes win."""
    folder = tmp_path_factory.mktemp("household")
    shape = Shape(receptacles=(5, 5), objects=(3, 4), task_types=("pick_and_place_simple",))
    problems = generate({"train": KNOWN + STRANGE}, seed=2, rooms=4, shape=shape)["train"]
    task = make_task({"name": "household"})
    rows = []
    for problem in problems:
        label = {"problem": problem.to_json()}
        rows.append({"input": task.episode(label).start(), "label": json.dumps(label), "datasource": "household"})
    write_rows(folder / "prompts.jsonl", rows)
    learn_by_heart(folder / "model", problems[:KNOWN])
    sampling = {"prompts": folder / "prompts.jsonl", "n": SAMPLES, "temperature": 1, "out": folder / "episodes.jsonl"}
    asking = {"suite": "household_toy", "data": folder / "prompts.jsonl", "out": folder / "evaluation"}
    both = [f"before={folder / 'model'}", f"after={folder / 'oreo' / 'model'}"]
    turn = ["--max-new-tokens", "8"]
    jobs = [
        ["collect", "--model", str(folder / "model"), "--logprobs", *turn, *as_words(sampling | TASK)],
        ["train", "oreo", *as_words(oreo(folder))],
        ["evaluate", "--model", *both, *turn, *as_words(asking | TASK)],
    ]
    (folder / "all.jobs").write_text("\n".join(shlex.join(words) for words in jobs))
    job = Job(["jobs", str(folder / "all.jobs")], folder / "log", environment())
    assert job.wait(1200) == 0, job.output()[-6000:]
    return folder


def oreo(folder: Path) -> dict[str, object]:
    return {
        "run.dir": folder / "oreo",
        "run.seed": 3,
        "run.tensorboard": False,
        **TASK,
        "oreo.level": "step",
        "oreo.turn_ends": True,
        "oreo.max_steps": 1,
        "actor.model_name_or_path": folder / "model",
        "actor.adam.lr": 1e-4,
        "actor.lr_warmup_ratio": 0,
        "critic.adam.lr": 1e-3,
        "critic.lr_warmup_ratio": 0,
        "data.prompt_dataset": folder / "episodes.jsonl",
        "data.max_len": 384,
        "train.batch_size": 16,
        "train.micro_batch_size": 8,
    }


def learn_by_heart(folder: Path, problems: list) -> None:
    """A tiny model that has read the shortest walks of the problems some dozens of times."""
    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    build_tiny_model(folder, task="household", layers=2, hidden=64, heads=2, context=384, seed=1)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    texts = []
    for problem in problems:
        game, messages = ToyHousehold(), []
        messages.append({"role": "user", "content": game.reset(problem)})
        for action in oracle_walk(problem):
            messages.append({"role": "assistant", "content": action})
            messages.append({"role": "user", "content": game.step(action)[0]})
        texts.append(tokenizer.apply_chat_template(messages[:-1], tokenize=False))
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(120):
        network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    network.save_pretrained(folder)


def test_ranges_hold_exactly_what_the_agent_said(finished: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(finished / "model")
    rows = read_trajectories(finished / "episodes.jsonl")
    assert len(rows) == (KNOWN + STRANGE) * SAMPLES
    ended = 0
    for row in rows:
        tokens = row["observation_tokens"]
        turns = [tokens[start:end] for start, end in row["action_ranges"]]
        ended += sum(turn[-1] == tokenizer.eos_token_id for turn in turns)
        assert len(turns) <= TURNS and all(len(turn) <= 8 for turn in turns)
        said = [tokenizer.decode(turn, skip_special_tokens=True) for turn in turns]
        played = turns_of(row["text"])
        assert said[: len(played)] == played and len(said) - len(played) <= row["truncated"]
        assert tokenizer.decode(tokens[: row["action_ranges"][0][0]]) == row["prompt"]
        assert row["step_starts"] == [start for start, _ in row["action_ranges"]]
        acting = {i for start, end in row["action_ranges"] for i in range(start, end)}
        assert [p for i, p in enumerate(row["rollout_log_probs"]) if i not in acting and p != 0.0] == []
        assert sum(row["rollout_log_probs"]) < 0.0
        assert tokens[-1] == turns[-1][-1]  # no observation behind the last turn
    assert ended > len(rows)  # turn-end tokens are among the actions


def test_rewards_are_those_of_a_replay(finished: Path) -> None:
    task = make_task({"name": "household", "instruction": "none", "max_turns": TURNS})
    rows = [row for row in read_trajectories(finished / "episodes.jsonl") if not row["truncated"]]
    verdicts = [task.verify(row["text"], row["label"]) for row in rows]
    assert [v.reward for v in verdicts] == [row["reward"] for row in rows]
    assert [v.metrics["invalid_actions"] for v in verdicts] == [row["extra_logs"]["invalid_actions"] for row in rows]
    rewards = [row["reward"] for row in rows]
    assert 0 < sum(rewards) < len(rewards), "an agent that wins always or never shows nothing"


def test_oreo_takes_a_step_on_the_episodes(finished: Path) -> None:
    rows = read_metrics(finished / "oreo")
    assert [row["step"] for row in rows if "train/value_loss" in row] == [1]
    (data,) = [event for event in read_events(finished / "oreo") if event["kind"] == "data"]
    assert data["usable"] + sum(data["dropped"].values()) == (KNOWN + STRANGE) * SAMPLES
    assert (finished / "oreo" / "model" / "config.json").exists()


def test_the_evaluation_counts_and_says_what_the_games_are(finished: Path) -> None:
    text = (finished / "evaluation" / "summary.md").read_text()
    assert "not ALFWorld figures" in text and "invalid_actions" in text and "timeouts" in text
    rows = [
        json.loads(line) for line in (finished / "evaluation" / "before" / "results.jsonl").read_text().splitlines()
    ]
    assert len(rows) == KNOWN + STRANGE
    task = make_task({"name": "household", "max_turns": TURNS})
    for row in rows:
        assert task.verify(row["text"], row["label"]).correct == row["correct"]
    assert sum(row["correct"] for row in rows[:KNOWN]) >= KNOWN // 2  # learned by heart
