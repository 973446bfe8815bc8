"""Start states before a run: every row names its stage, no stage is missing, budgets and modes fit the data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_ext.config.load import Resolved, load
from openrlhf_ext.config.problem import Problem, errors, notes
from openrlhf_ext.memory import ModelShape
from openrlhf_ext.plan import make_plan
from openrlhf_ext.preflight import preflight, read_inputs
from openrlhf_ext.preflight_data import Rows
from openrlhf_ext.preflight_stages import stage_problems, trained_rows

SMALL = {
    "task.name": "chain",
    "actor.model_name_or_path": "model",
    "data.prompt_dataset": "mixed.jsonl",
    "data.max_len": "128",
    "rollout.batch_size": "4",
    "rollout.micro_batch_size": "4",
    "rollout.max_new_tokens": "64",
    "train.batch_size": "4",
    "train.micro_batch_size": "4",
    "run.dir": "runs/r",
}
MIXED = ["stage_0"] * 4 + ["stage_1"] * 3 + ["stage_2"] * 5


def request(method: str = "reverse-curriculum", **changes: object) -> Resolved:
    settings = SMALL | {key.replace("__", "."): str(value) for key, value in changes.items()}
    return load(method, None, list(settings.items()))


def data(sources: Sequence[object]) -> Rows:
    rows = [{"input": f"q{i}", "datasource": source} for i, source in enumerate(sources)]
    return Rows("data.prompt_dataset", "input", rows, [f"mixed.jsonl line {i + 1}" for i in range(len(rows))])


def look(sources: Sequence[object], total: int | None = None, **changes: object) -> list[tuple[str, str]]:
    """(where, what) of the problems; none of them is a mere remark."""
    found = list(stage_problems(request(**changes), data(sources), total))
    assert errors(found) == found
    assert all(problem.fix for problem in found)
    return [(problem.where.split(" (")[0], problem.what) for problem in found]


@pytest.mark.parametrize("mode", ["mixed", "staged", "plain", "adaptive"])
def test_mixed_rows_serve_every_mode(mode: str) -> None:
    assert look(MIXED, 100, reverse_curriculum__mode=mode) == []


@pytest.mark.parametrize(
    "source", [None, "gsm8k", "stage_", "stage_x", "stage_1 ", "Stage_1", "stage_-1", 1, ["stage_1"], {}]
)
def test_a_row_without_a_stage_is_named(source: object) -> None:
    ((where, what),) = look([*MIXED[:6], source, *MIXED[6:], source])
    assert where == "mixed.jsonl line 7"
    assert what.startswith(f"2 rows name no stage; the first has datasource {source!r},")


def test_a_row_without_a_datasource_is_named() -> None:
    rows = data(MIXED)
    del rows.rows[3]["datasource"]
    (problem,) = stage_problems(request(), rows)
    assert problem.where == "mixed.jsonl line 4"
    assert "prepare reverse-curriculum --mode mixed" in problem.fix


def test_missing_stages_are_named() -> None:
    sources = ["stage_0", "stage_2", "stage_5", "stage_2"]
    assert look(sources) == [("data.prompt_dataset", "no start states of stage 1, 3, 4 among stages 0 to 5")]
    assert look(["stage_1", "stage_1"]) == [("data.prompt_dataset", "no start states of stage 0 among stages 0 to 1")]


@pytest.mark.parametrize("mode", ["mixed", "staged", "adaptive"])
def test_questions_alone_are_for_plain_training(mode: str) -> None:
    ((where, what),) = look(["stage_0"] * 8, 100, reverse_curriculum__mode=mode)
    assert where == "data.prompt_dataset"
    assert f"stage 0 alone, the bare questions: {mode} would be ordinary outcome RL" in what
    assert look(["stage_0"] * 8, reverse_curriculum__mode="plain") == []


@pytest.mark.parametrize(("budgets", "fits"), [("8,16,32", True), ("8,16", False), ("8,16,32,64", False), ("8", False)])
def test_budgets_are_one_for_each_stage(budgets: str, fits: bool) -> None:
    found = look(MIXED, 100, reverse_curriculum__mode="staged", reverse_curriculum__budgets=budgets)
    count = budgets.count(",") + 1
    wrong = [("reverse_curriculum.budgets", f"{count} budgets, but the data has 3 stages")]
    assert found == ([] if fits else wrong)


def test_budgets_of_another_mode_are_no_matter_of_the_data() -> None:
    assert look(MIXED, reverse_curriculum__mode="mixed", reverse_curriculum__budgets="8,16") == []


def test_a_staged_run_has_a_start_state_for_each_stage() -> None:
    assert look(MIXED, 3, reverse_curriculum__mode="staged") == []
    ((where, what),) = look(MIXED, 2, reverse_curriculum__mode="staged")
    assert (where, what) == ("reverse_curriculum.max_steps", "2 start states in the whole run, fewer than the 3 stages")
    assert look(MIXED, 2, reverse_curriculum__mode="mixed") == []
    assert look(MIXED, None, reverse_curriculum__mode="staged") == []


def test_other_methods_and_empty_files_have_no_stages() -> None:
    grpo = request("grpo")
    assert list(stage_problems(grpo, data(["game24"] * 4))) == []
    assert trained_rows(grpo, data(["game24"] * 4)) == 4
    assert list(stage_problems(request(), data([]))) == []


@pytest.mark.parametrize(("mode", "count"), [("plain", 4), ("mixed", 12), ("staged", 12), ("adaptive", 12)])
def test_rows_that_are_trained_on(mode: str, count: int) -> None:
    assert trained_rows(request(reverse_curriculum__mode=mode), data(MIXED)) == count


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with start states and a model as preflight reads them."""
    monkeypatch.chdir(tmp_path)
    write("mixed.jsonl", MIXED)
    write_model("model")
    Path("model/tokenizer.json").write_text("{}")
    return tmp_path


def write_model(folder: str, vocabulary: int = 100) -> None:
    Path(folder).mkdir()
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    Path(folder, "config.json").write_text(
        json.dumps(config | {"vocab_size": vocabulary, "max_position_embeddings": 512})
    )
    Path(folder, "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def write(path: str, sources: Sequence[object], first: int = 0) -> None:
    label = json.dumps({"answer": "7"})
    rows = [{"input": f"{first + i}+1 mod 100\n", "label": label, "datasource": s} for i, s in enumerate(sources)]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def whole(**changes: object) -> list[Problem]:
    """What a dry run finds."""
    resolved = request(**changes)
    inputs = read_inputs(resolved)
    plan = make_plan(resolved, "cpu", rows=inputs.rows, model=inputs.model)
    return preflight(resolved, plan, inputs=inputs, dry_run=True, tokens=False)


@pytest.mark.usefixtures("folder")
def test_a_good_request_has_no_problems() -> None:
    assert whole() == []
    assert whole(reverse_curriculum__mode="staged", reverse_curriculum__budgets="4,4,4") == []


@pytest.mark.usefixtures("folder")
def test_the_stages_are_part_of_preflight() -> None:
    write("mixed.jsonl", [*MIXED, "chain"])
    assert [problem.where for problem in errors(whole())] == ["mixed.jsonl line 13"]


@pytest.mark.usefixtures("folder")
def test_plain_mode_counts_the_questions_alone() -> None:
    # 4 questions fill one batch of 4 in a pass; all 12 rows would fill three.
    def steps(**changes: object) -> int | None:
        resolved = request(**changes)
        return make_plan(resolved, "cpu", rows=read_inputs(resolved).rows).batch.steps

    assert steps(reverse_curriculum__mode="plain") == 1
    assert steps(reverse_curriculum__mode="mixed") == 3
    larger = {
        "rollout__batch_size": 8,
        "rollout__micro_batch_size": 8,
        "train__batch_size": 8,
        "train__micro_batch_size": 8,
    }
    assert errors(whole(reverse_curriculum__mode="mixed", **larger)) == []
    (problem,) = errors(whole(reverse_curriculum__mode="plain", **larger))
    assert "4 rows do not fill one batch of 8" in problem.what


@pytest.mark.usefixtures("folder")
def test_a_staged_run_that_is_too_short_for_its_stages() -> None:
    one = {
        "rollout__batch_size": 2,
        "rollout__micro_batch_size": 2,
        "train__batch_size": 2,
        "train__micro_batch_size": 2,
    }
    found = errors(whole(reverse_curriculum__mode="staged", reverse_curriculum__max_steps=1, **one))
    assert [problem.where.split(" (")[0] for problem in found] == ["reverse_curriculum.max_steps"]
    assert errors(whole(reverse_curriculum__mode="staged", reverse_curriculum__max_steps=2, **one)) == []


@pytest.mark.usefixtures("folder")
def test_dev_and_test_rows_that_are_trained_on_are_remarked_on() -> None:
    write("dev.jsonl", ["chain"] * 3, first=100)
    write("test.jsonl", ["chain"] * 4, first=10)  # 10 and 11 are training rows
    sets = {"eval__dataset": "dev.jsonl", "eval__steps": 1, "evaluation__test_dataset": "test.jsonl"}
    (note,) = whole(**sets)
    assert note.note
    assert note.where == "evaluation.test_dataset"
    assert "2 of its 4 rows are also training rows" in note.what
    write("dev.jsonl", ["chain"] * 3, first=0)
    assert [problem.where for problem in notes(whole(**sets))] == ["eval.dataset", "evaluation.test_dataset"]


@pytest.mark.usefixtures("folder")
def test_the_test_set_is_read_like_the_dev_split() -> None:
    write("dev.jsonl", ["chain"] * 3, first=100)
    Path("test.jsonl").write_text('{"input": "1+1 mod 100\\n"}\n')
    found = errors(whole(eval__dataset="dev.jsonl", evaluation__test_dataset="test.jsonl"))
    assert [problem.where for problem in found] == ["test.jsonl line 1"]
    found = errors(whole(eval__dataset="dev.jsonl", evaluation__test_dataset="tset.jsonl"))
    assert [problem.where.split(" (")[0] for problem in found] == ["evaluation.test_dataset"]


@pytest.mark.usefixtures("folder")
def test_a_run_without_an_end_names_this_methods_key() -> None:
    resolved = request(data__prompt_dataset="org/on-the-hub")
    inputs = read_inputs(resolved)
    plan = make_plan(resolved, "cpu", rows=inputs.rows)
    found = preflight(resolved, plan, inputs=inputs, tokens=False)
    assert "reverse_curriculum.max_steps" in {problem.where for problem in errors(found)}


@pytest.mark.usefixtures("folder")
def test_a_critic_of_its_own_is_looked_at() -> None:
    def found(name: str) -> list[tuple[str, str]]:
        problems = errors(whole(critic__model_name_or_path=name))
        return [(problem.where.split(" (")[0], problem.what) for problem in problems]

    key = "critic.model_name_or_path"
    assert found("./critic") == [(key, "no such folder: ./critic")]
    write_model("critic")
    assert found("critic") == [], "a critic needs no tokenizer"
    write_model("other", vocabulary=101)
    ((where, what),) = found("other")
    assert where == key
    assert what.startswith("101 tokens, but the policy has 100")
    Path("critic/model.safetensors").unlink()
    assert found("critic") == [(key, "critic has no weights (*.safetensors)")]
    assert found("model") == [], "the policy's own start model"


@pytest.mark.usefixtures("folder")
def test_the_checkpoints_of_a_critic_and_the_best_policy_need_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from openrlhf_ext import preflight as module

    # In float32 a checkpoint has 16 bytes a parameter: 14.9 GiB; the weights alone have 4: 3.7 GiB.
    billion = ModelShape(10**9, 1, 64, 2, 2, 32, 100)
    monkeypatch.setattr(module, "_installed", lambda package: True)

    def found(method: str, free_gib: float, **settings: object) -> list[str]:
        monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=free_gib * 2**30))
        more = settings | ({"rollout__n_samples_per_prompt": 2} if method == "grpo" else {})
        resolved = request(method, ckpt__save_steps=5, ckpt__max_num=1, **more)
        inputs = replace(read_inputs(resolved), model=billion)
        plan = make_plan(resolved, "cpu", rows=inputs.rows)
        return [p.where for p in errors(preflight(resolved, plan, inputs=inputs, tokens=False)) if p.where == "disk"]

    # Two checkpoints of the policy and the final model: 2 x 14.9 + 3.7 = 33.5 GiB; with the critic's two: 4 x 14.9 + 3.7 = 63.3 GiB.
    assert [found("grpo", free) for free in (33, 34)] == [["disk"], []]
    assert [found("reverse-curriculum", free) for free in (40, 63, 64)] == [["disk"], ["disk"], []]
    # The best policy stays while the last one is written: 2 x 14.9 + 2 x 3.7 = 37.3 GiB.
    best = {"evaluation__keep_best": True, "eval__dataset": "mixed.jsonl", "eval__steps": 5}
    assert [found("grpo", free, **best) for free in (34, 37, 38)] == [["disk"], ["disk"], []]
