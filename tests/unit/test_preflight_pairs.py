"""A request on preferences, checked as a whole before anything starts: files, tokens, lengths, reference, keys that cannot work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from openrlhf_ext.cluster import Cluster
from openrlhf_ext.config.load import load
from openrlhf_ext.config.problem import Problem
from openrlhf_ext.train import examine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("start") / "model"
    build_tiny_model(folder, task="chain", layers=1, hidden=32, heads=1, context=64, seed=3)
    return folder


def pair(i: int, **changes: object) -> dict:
    return {
        "prompt": f"{i}+1 mod 100\n",
        "chosen": f"{i}+1={i + 1}\n#### {i + 1}",
        "rejected": f"{i}+1={i}\n",
    } | changes


PAIRS = [pair(i) for i in range(16)]


class Asked:
    """A method's request on a folder: what `train` would say."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model

    def write(self, name: str, rows: list, tail: str = "") -> str:
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
        return str(path)

    def of(self, method: str = "dpo", dry_run: bool = True, **settings: object) -> tuple[object, list[Problem]]:
        plain = {
            "run.dir": self.folder / "run",
            "run.device": "cpu",
            "model.model_name_or_path": self.model,
            "data.max_len": 48,
            "train.batch_size": 8,
            "train.micro_batch_size": 4,
        }
        values = plain | {key.replace("__", "."): value for key, value in settings.items()}
        words = [(key, str(value).lower() if isinstance(value, bool) else str(value)) for key, value in values.items()]
        _, plan, problems = examine(method, None, words, local_device="cpu", cluster=Cluster.local(), dry_run=dry_run)
        return plan, problems

    def errors(self, method: str = "dpo", **settings: object) -> list[Problem]:
        return [problem for problem in self.of(method, **settings)[1] if not problem.note]

    def notes(self, method: str = "dpo", **settings: object) -> str:
        return "\n".join(str(problem) for problem in self.of(method, **settings)[1] if problem.note)


@pytest.fixture
def asked(tmp_path: Path, model: Path) -> Asked:
    return Asked(tmp_path, model)


@pytest.mark.parametrize("method", ["dpo", "self-explore", "kto", "rm"])
def test_a_good_request_has_no_problem_and_its_steps_are_counted(asked: Asked, method: str) -> None:
    data, held_out = (
        asked.write("train.jsonl", [*PAIRS, pair(16)]),
        asked.write("held.jsonl", [pair(i) for i in range(20, 24)]),
    )
    plan, problems = asked.of(method, data__dataset=data, eval__dataset=held_out, train__max_epochs=3)
    assert [p for p in problems if not p.note] == []
    rows = 34 if method == "kto" else 17
    assert (plan.batch.rows, plan.batch.steps) == (rows, rows // 8 * 3)


def test_rows_that_are_left_out_are_not_counted_as_steps(asked: Asked) -> None:
    long = pair(1, chosen="1+1=2\n" * 20)
    plan, problems = asked.of(data__dataset=asked.write("train.jsonl", [*PAIRS[:8], *[long] * 8]))
    assert plan.batch.rows == 8
    (note,) = [p for p in problems if "left out" in p.what]
    assert (
        note.note
        and "8 of 16 pairs" in note.what
        and "train.jsonl line 9" in note.what
        and "--data.max_len" in note.fix
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (pair(3, rejected=""), "'rejected' is empty"),
        (pair(3, chosen="x", rejected="x"), "are the same"),
        (pair(3, prompt=None), "no field 'prompt'"),
        (pair(3, rejected=7), "is a int, not text"),
    ],
)
def test_bad_rows_are_refused_with_file_line_and_field(asked: Asked, row: dict, said: str) -> None:
    (error,) = asked.errors(data__dataset=asked.write("train.jsonl", [*PAIRS, row]))
    assert error.where.endswith("train.jsonl line 17") and said in error.what and error.fix


def test_a_half_written_line_lets_the_run_start_and_is_named(asked: Asked) -> None:
    plan, problems = asked.of(data__dataset=asked.write("train.jsonl", PAIRS, tail='{"prompt": "1'))
    assert [p for p in problems if not p.note] == [] and plan.batch.rows == 16
    assert any(p.where.endswith("line 17") and "skipped" in p.what for p in problems)


def test_missing_files_and_columns_are_refused_with_the_nearest_name(asked: Asked) -> None:
    asked.write("train.jsonl", PAIRS)
    (error,) = asked.errors(data__dataset=str(asked.folder / "trian.jsonl"))
    assert "no such file" in error.what and "did you mean train.jsonl?" in error.fix
    renamed = [{"prompt": row["prompt"], "chosen": row["chosen"], "rejects": row["rejected"]} for row in PAIRS]
    (error,) = asked.errors(data__dataset=asked.write("renamed.jsonl", renamed))
    assert "did you mean rejects? --data.rejected_key rejects" in error.fix
    assert asked.errors(data__dataset=str(asked.folder / "renamed.jsonl"), data__rejected_key="rejects") == []


def test_a_file_of_trl_is_read_back(asked: Asked) -> None:
    import pyarrow
    import pyarrow.parquet

    path = asked.folder / "trl.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(PAIRS), path)
    plan, problems = asked.of(data__dataset=path)
    assert [p for p in problems if not p.note] == [] and plan.batch.rows == 16


def test_text_that_the_tokenizer_does_not_know_is_refused(asked: Asked) -> None:
    (error, *_) = asked.errors(data__dataset=asked.write("train.jsonl", [pair(i, prompt="Zoë?\n") for i in range(8)]))
    assert "tokenizer" in error.what


def test_held_out_pairs_that_are_trained_on_are_remarked_on(asked: Asked) -> None:
    data = asked.write("train.jsonl", PAIRS)
    assert "3 of its 3 rows are also training rows" in asked.notes(
        data__dataset=data, eval__dataset=asked.write("held.jsonl", PAIRS[:3])
    )


def test_the_rest_of_the_wrong_solution_must_be_there(asked: Asked) -> None:
    data = asked.write("train.jsonl", PAIRS)
    (error,) = asked.errors("self-explore", data__dataset=data, self_explore__rejected="suffix")
    assert "meta.rest" in error.what
    data = asked.write("rest.jsonl", [pair(i, meta={"rest": f"#### {i}"}) for i in range(16)])
    assert asked.errors("self-explore", data__dataset=data, self_explore__rejected="suffix") == []


@pytest.mark.parametrize(
    ("method", "settings", "key"),
    [
        ("dpo", {"eval__steps": 5}, "eval.steps"),
        ("dpo", {"model__ipo_enable": True, "model__label_smoothing": 0.1}, "model.label_smoothing"),
        ("dpo", {"model__beta": 0}, "model.beta"),
        ("dpo", {"data__dataset_probs": "1.0"}, "data.dataset_probs"),
        ("dpo", {"preference__reference": "cached", "ref__model_name_or_path": "/tmp"}, "preference.reference"),
        ("dpo", {"preference__bos": True}, "preference.bos"),
        ("kto", {"kto__desirable_weight": 0}, "kto.desirable_weight"),
        ("kto", {"model__nll_loss_coef": 0.1}, "model.nll_loss_coef"),
        ("rm", {"preference__ends": "chosen"}, "preference.ends"),
        ("rm", {"model__loss_type": "hinge"}, "model.loss_type"),
        ("rm", {"ds__lora__rank": 8}, "ds.lora.rank"),
        ("dpo", {"train__batch_size": 6}, "train.batch_size"),
    ],
)
def test_values_that_cannot_work_are_refused(asked: Asked, method: str, settings: dict, key: str) -> None:
    data = asked.write("train.jsonl", PAIRS)
    assert key in {error.where.split(" (")[0] for error in asked.errors(method, data__dataset=data, **settings)}


def test_lora_is_refused_only_where_its_head_would_be_lost(asked: Asked) -> None:
    data = asked.write("train.jsonl", PAIRS)
    (error,) = asked.errors("rm", data__dataset=data, ds__lora__rank=8)
    assert "head" in error.what and "merge" in error.fix
    for method in ("dpo", "self-explore", "kto"):
        assert asked.errors(method, data__dataset=data, ds__lora__rank=8) == []


def test_what_nothing_reads_is_remarked_on(asked: Asked) -> None:
    data = asked.write("train.jsonl", PAIRS)
    assert "run.keep_rollouts (command line): has no effect" in asked.notes(data__dataset=data, run__keep_rollouts=3)
    assert "no held-out pairs" in asked.notes("rm", data__dataset=data)
    assert "RMSprop" in asked.notes("self-explore", data__dataset=data, self_explore__preset="gsm8k-mistral")


def test_a_cache_of_another_model_is_refused(asked: Asked) -> None:
    import torch

    from openrlhf_ext.preflight_model import model_folder
    from openrlhf_ext.rollout.reference_cache import Fingerprint, model_fingerprint, write_cache

    data, cache = asked.write("train.jsonl", PAIRS), asked.folder / "shared.safetensors"
    settings = {"data__dataset": data, "preference__reference": "cached", "preference__reference_cache": cache}
    for mark, count in (
        (Fingerprint("another", "x", "float32"), 1),
        (Fingerprint(model_fingerprint(asked.model), "x", "bf16"), 1),
        (Fingerprint(model_fingerprint(asked.model), "x", "float32"), 0),
    ):
        write_cache(cache, mark, [torch.zeros(2)])
        found = [p for p in asked.of(dry_run=False, **settings)[1] if "preference.reference_cache" in p.where]
        assert len(found) == count, mark
    assert model_folder(load("dpo", None, [("model.model_name_or_path", str(asked.model))])) == asked.model


@pytest.mark.parametrize("suite", ["gsm8k", "math"])
@pytest.mark.parametrize("base", ["mistral", "llemma", "deepseek-math"])
def test_presets_are_the_papers(suite: str, base: str) -> None:
    resolved = load("self-explore", None, [("self_explore.preset", f"{suite}-{base}")])
    assert resolved.number("adam.lr") == (1e-7 if base == "mistral" else 1e-6)
    assert resolved.whole("data.max_len") == {"gsm8k": 384, "math": 1024}[suite]
    assert (resolved.number("model.beta"), resolved.whole("train.batch_size"), resolved.whole("train.max_epochs")) == (
        0.1,
        32,
        3,
    )
    assert (resolved.text("lr_scheduler"), resolved.number("lr_warmup_ratio")) == ("linear", 0.1)
    args = resolved.upstream_args()
    assert args.adam.lr == resolved.number("adam.lr") and args.model.beta == 0.1


def test_a_tokenizer_that_begins_texts_by_itself_is_remarked_on(asked: Asked, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    tokenizer.add_special_tokens({"bos_token": tokenizer.eos_token})
    name, number = tokenizer.bos_token, tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{name} $A", special_tokens=[(name, number)]
    )
    shutil.copytree(asked.model, tmp_path / "begins")
    tokenizer.save_pretrained(tmp_path / "begins")
    settings = {"model__model_name_or_path": tmp_path / "begins", "data__dataset": asked.write("train.jsonl", PAIRS)}
    assert "16 of 16 prompts do not begin with" in asked.notes(**settings)
    assert "prompts do not begin with" not in asked.notes(**settings, preference__bos=True)
