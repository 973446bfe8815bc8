"""OREO's request against the disk: rows by line and field, what is left out, other models, a stale cache; and its plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_ext.config.load import Resolved, load
from openrlhf_ext.config.problem import Problem, errors, notes
from openrlhf_ext.memory import ModelShape, frozen_state_gib
from openrlhf_ext.plan import make_plan
from openrlhf_ext.preflight import Inputs, preflight, read_inputs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("offline") / "model"
    build_tiny_model(folder, task="chain", layers=1, hidden=32, heads=1, context=64, seed=1)
    return folder


def rows(count: int = 40) -> list[dict]:
    return [
        {"prompt": f"{i}+1 mod 100\n", "response": f"{i}+1={i + 1}\n#### {i + 1}", "reward": i % 2}
        for i in range(count)
    ]


def save(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def request(model: Path, data: Path | str, **changes: object) -> Resolved:
    settings = {
        "run.dir": Path(data).parent / "run",
        "actor.model_name_or_path": model,
        "data.prompt_dataset": data,
        "data.max_len": 64,
        "train.batch_size": 8,
        "train.micro_batch_size": 4,
        "train.max_epochs": 3,
    } | {key.replace("__", "."): value for key, value in changes.items()}
    return load("oreo", None, [(key, str(value)) for key, value in settings.items()])


def examined(resolved: Resolved, **options: bool) -> tuple[Inputs, list[Problem]]:
    inputs = read_inputs(resolved)
    plan = make_plan(resolved, "cpu", rows=inputs.rows, model=inputs.model)
    return inputs, preflight(resolved, plan, inputs=inputs, **options)


def test_both_networks_need_room_in_checkpoints_and_when_they_are_saved(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openrlhf_ext import preflight as module

    monkeypatch.setattr(module, "_installed", lambda package: True)
    resolved = request(model, save(tmp_path / "t.jsonl", rows()), ckpt__save_steps=5, ckpt__max_num=1)
    inputs = replace(read_inputs(resolved), model=ModelShape(10**9, 1, 64, 2, 2, 32, 100))

    def found(free_gib: float) -> list[str]:
        monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=free_gib * 2**30))
        plan = make_plan(resolved, "cpu", rows=inputs.rows)
        return [p.what for p in preflight(resolved, plan, inputs=inputs, tokens=False) if p.where == "disk"]

    # Two checkpoints of both at 16 bytes a parameter, policy and value network at 4: 72e9 bytes = 67.1 GiB.
    (what,) = found(67)
    assert what.startswith("2 checkpoints of policy and critic and the 2 saved models need about 67.1 GiB")
    assert found(68) == []


def test_good_data_gives_a_plan_with_the_whole_horizon(model: Path, tmp_path: Path) -> None:
    resolved = request(model, save(tmp_path / "t.jsonl", rows()))
    inputs, found = examined(resolved)
    assert errors(found) == [] and inputs.rows == 40
    assert any("40 plain rows were tokenised" in note.what for note in notes(found))
    plan = make_plan(resolved, "cpu", rows=inputs.rows)
    batch = plan.batch
    assert (batch.steps, batch.optimizer_steps, batch.accumulation) == (15, 15, 2), "3 passes over 40 rows, 8 at a time"
    assert [group.name for group in plan.groups] == ["actor", "critic"] and not plan.engines
    assert "15 steps, 15 optimizer updates; 40 rows, 5 steps per epoch, 3 epochs" in plan.render()
    assert make_plan(request(model, "x", oreo__max_steps=7), "cpu", rows=40).batch.optimizer_steps == 7
    limited = request(model, tmp_path / "t.jsonl", data__max_samples=16)
    assert examined(limited)[0].rows == 16
    assert make_plan(limited, "cpu", rows=16).batch.steps == 6


def test_the_frozen_reference_counts_where_the_policy_is() -> None:
    shape = ModelShape(10**9, 8, 512, 8, 8, 64, 32000)
    exact, sampled = (
        make_plan(request(Path("m"), "t", oreo__regulariser=name), "cpu", rows=40, model=shape)
        for name in ("exact", "sampled")
    )
    more = exact.group("actor").state_gib - sampled.group("actor").state_gib
    assert more == pytest.approx(frozen_state_gib(shape, "float32", 2, 1))
    assert exact.group("critic").state_gib == sampled.group("critic").state_gib


def test_bad_rows_are_named_by_line_and_field(model: Path, tmp_path: Path) -> None:
    bad = rows(4)
    bad[1]["reward"] = 2
    del bad[2]["response"]
    _, found = examined(request(model, save(tmp_path / "t.jsonl", bad)))
    assert {(p.where, p.what.split(":")[0]) for p in errors(found)} >= {(f"{tmp_path / 't.jsonl'}:2", "reward")}
    assert any(p.where == f"{tmp_path / 't.jsonl'}:3" for p in errors(found))
    assert "--oreo.reward_high" in next(p.fix for p in found if p.where.endswith(":2"))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ([{"reward": 0}] * 8, "all 8 usable trajectories have the lowest reward 0"),
        ([{"prompt": "1+1 mod 100\n" * 20}] * 8, "no usable trajectory (left out: 8 prompt too long)"),
    ],
)
def test_data_that_cannot_teach_is_refused(model: Path, tmp_path: Path, change: list[dict], what: str) -> None:
    data = [row | more for row, more in zip(rows(8), change, strict=True)]
    _, found = examined(request(model, save(tmp_path / "t.jsonl", data)))
    assert any(what in p.what for p in errors(found))


def test_what_is_missing_is_said_before_anything_starts(model: Path, tmp_path: Path) -> None:
    data = save(tmp_path / "t.jsonl", rows())
    assert any("no such file" in p.what for p in errors(examined(request(model, tmp_path / "none.jsonl"))[1]))
    assert any("no such folder" in p.what for p in errors(examined(request(tmp_path / "none", data))[1]))
    stepwise = request(model, data, oreo__level="step")
    assert any("40 of 40 trajectories have no step_starts" in p.what for p in errors(examined(stepwise)[1]))
    assert errors(examined(request(model, data, oreo__level="step", task__name="chain"))[1]) == []
    few = request(model, data, train__batch_size=200, train__micro_batch_size=100)
    assert any("do not fill one batch of 200" in p.what for p in errors(examined(few)[1]))


def test_a_balanced_choice_keeps_failures_and_is_told(model: Path, tmp_path: Path) -> None:
    """Problem 0: 3 right, 1 wrong; problem 1: 1 right, 3 wrong; problem 2: 4 right."""
    outcomes = [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    data = [
        {"prompt": f"{i}+1 mod 100\n", "response": f"#### {j}", "reward": reward, "problem_id": i}
        for i, of_problem in enumerate(outcomes)
        for j, reward in enumerate(of_problem)
    ]
    file = save(tmp_path / "t.jsonl", data)
    inputs, found = examined(request(model, file, oreo__per_problem=2, train__batch_size=4, train__micro_batch_size=4))
    assert errors(found) == []
    # 1 right with the 1 wrong; 1 right with 2 wrong; 1 right alone.
    assert inputs.rows == 2 + 3 + 1
    assert any(
        "6 of 12 trajectories are used: at most 2 successes and 2 failures of a problem" in p.what for p in found
    )
    assert examined(request(model, file, train__batch_size=4, train__micro_batch_size=4))[0].rows == 12


def test_another_model_without_the_policys_vocabulary_is_refused(model: Path, tmp_path: Path) -> None:
    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    other = tmp_path / "other"
    build_tiny_model(other, task="game24", layers=1, hidden=32, heads=1, context=64, seed=1)
    data = save(tmp_path / "t.jsonl", rows())
    for key, role in (("oreo__reference_model", "reference"), ("critic__model_name_or_path", "critic")):
        _, found = examined(request(model, data, **{key: other}))
        assert any(f"the {role} reads the policy's tokens" in p.what for p in errors(found))
        assert errors(examined(request(model, data, **{key: model}))[1]) == []


def test_a_cache_made_by_another_model_is_noticed(model: Path, tmp_path: Path) -> None:
    import torch

    from openrlhf_ext.offline_data import reference_fingerprint
    from openrlhf_ext.rollout.reference_cache import write_cache

    data, cache = save(tmp_path / "t.jsonl", rows()), tmp_path / "cache.safetensors"
    resolved = request(model, data, oreo__regulariser="sampled", oreo__reference_cache=cache)
    inputs, found = examined(resolved)
    assert errors(found) == []
    trajectories = inputs.offline.trajectories
    right = reference_fingerprint(resolved, trajectories)
    write_cache(cache, right, [torch.zeros(3)] * len(trajectories))
    assert errors(examined(resolved)[1]) == []
    write_cache(cache, right.__class__("another", right.data, right.precision), [torch.zeros(3)])
    (problem,) = errors(examined(resolved)[1])
    assert "made with another model" in problem.what and "delete the file" in problem.fix


def test_a_special_token_that_the_model_sampled_is_no_other_tokenizer(model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    prompt, wrote = tokenizer("1+1 mod 100\n")["input_ids"], tokenizer("#### 2")["input_ids"]
    wrote = [*wrote[:-1], tokenizer.unk_token_id, wrote[-1], tokenizer.eos_token_id]

    def trajectory(text: str) -> dict[str, object]:
        both, start = prompt + wrote, len(prompt)
        plain = {"prompt": "1+1 mod 100\n", "label": "", "truncated": False, "rollout_log_probs": [0.0] * len(both)}
        judged = {"text": text, "reward": 1.0, "scores": 1.0, "extra_logs": {}}
        return plain | judged | {"observation_tokens": both, "action_ranges": [[start, len(both)]]}

    text = tokenizer.decode(wrote, skip_special_tokens=True)  # as `collect` writes it
    found = errors(examined(request(model, save(tmp_path / "t.jsonl", [trajectory(text)] * 8)))[1])
    assert not [problem for problem in found if "t.jsonl:" in problem.where], found
    found = errors(examined(request(model, save(tmp_path / "o.jsonl", [trajectory("#### 3")] * 8)))[1])
    assert [problem for problem in found if "another tokenizer" in problem.what], found
