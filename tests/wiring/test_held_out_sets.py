"""The held-out sets of a run, made from its keys: the dev split that chooses, and the test set that is only logged."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_ext.config.load import load
from openrlhf_ext.evaluate.heldout import HeldOut
from openrlhf_ext.launch_rollout import held_out, schedule
from openrlhf_ext.plan import make_plan
from openrlhf_ext.tasks.program import Program

ROWS = {"dev.jsonl": 6, "test.jsonl": 9}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, count in ROWS.items():
        rows = [{"input": f"{name} {i}\n", "label": json.dumps({"answer": str(i)})} for i in range(count)]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def request(folder: Path, **changes: object):
    settings: dict[str, object] = {
        "task.name": "chain",
        "task.partial_reward": 0.2,
        "actor.model_name_or_path": "m",
        "data.prompt_dataset": folder / "dev.jsonl",
        "run.dir": folder / "run",
        "reverse_curriculum.max_steps": 4,
    }
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    return load("reverse-curriculum", None, [(key, str(value)) for key, value in settings.items()])


def sets(folder: Path, **changes: object) -> list[HeldOut]:
    resolved = request(folder, **changes)
    args = resolved.upstream_args()
    strategy = SimpleNamespace(args=args, print=lambda *_: None, is_rank_0=lambda: False)
    return held_out(resolved, args, strategy, None)


def test_the_dev_split_comes_first_and_the_test_set_is_whole(folder: Path) -> None:
    dev, test = sets(
        folder,
        eval__dataset=folder / "dev.jsonl",
        evaluation__test_dataset=folder / "test.jsonl",
        evaluation__limit=4,
        evaluation__sample_rows=2,
    )
    assert (dev.name, test.name) == ("chain", "chain-test")
    assert [prompt.text for prompt in dev.prompts] == [f"dev.jsonl {i}\n" for i in range(4)]
    assert [prompt.text for prompt in test.prompts] == [f"test.jsonl {i}\n" for i in range(9)]
    assert json.loads(test.prompts[8].label) == {"answer": "8"}
    # Not by the reward that the run trains on, which pays 0.2 for a wrong number.
    assert [held.task.verify("#### 3", '{"answer": "4"}').reward for held in (dev, test)] == [0.0, 0.0]


def test_what_is_right_is_what_the_run_calls_right(folder: Path) -> None:
    """2/3 within 0.01: 0.66 misses by 0.00667. The default tolerance is 0."""
    near = ("#### 0.66", '{"answer": "2/3"}')
    dataset = folder / "dev.jsonl"
    (exact,) = sets(folder, eval__dataset=dataset)
    (tolerant,) = sets(folder, eval__dataset=dataset, task__tolerance=0.01)
    assert (exact.task.verify(*near).correct, tolerant.task.verify(*near).correct) == (False, True)
    assert not tolerant.task.verify("#### 0.65", near[1]).correct


def test_programs_are_run_as_the_run_allows(folder: Path) -> None:
    """Where the kernel cannot confine programs, `unconfined` must hold for held-out answers too, or each is a verifier error."""
    (held,) = sets(
        folder,
        task__name="gsm8k-program",
        task__unconfined="true",
        task__cpu_seconds=5,
        eval__dataset=folder / "dev.jsonl",
    )
    assert isinstance(held.task, Program) and held.task.unconfined and held.task.limits.cpu_seconds == 5
    assert held.task.partial_reward == 0.0


def test_one_set_or_none(folder: Path) -> None:
    assert [held.name for held in sets(folder, eval__dataset=folder / "dev.jsonl")] == ["chain"]
    assert sets(folder) == []


@pytest.mark.parametrize("keep", [True, False])
def test_the_calendar_of_a_run(folder: Path, keep: bool) -> None:
    resolved = request(
        folder, evaluation__keep_best=keep, eval__steps=2, ckpt__save_steps=3, evaluation__at_start=False
    )
    made = schedule(resolved, make_plan(resolved, "cpu"), resolved.upstream_args())
    assert (made.steps, made.eval_every, made.save_every, made.keep_best) == (4, 2, 3, keep)
    assert (made.eval_at_start, made.eval_at_end) == (False, True)
    assert made.final_temperature is None, "a key of grpo"
