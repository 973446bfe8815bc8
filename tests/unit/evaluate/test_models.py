"""Which models share an engine start, what they are called, and what is said about folders that cannot be served."""

import json
import os
from pathlib import Path

import pytest

from openrlhf_ext.evaluate.models import engine_groups, fingerprint, read_models, short_names

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}


EMPTY_SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


def folder(path: Path, *, weights: str = "model.safetensors", tokenizer: dict | None = None, **config: object) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(CONFIG | config))
    (path / "tokenizer.json").write_text(json.dumps(tokenizer or {"model": {"vocab": {"a": 0}}}))
    if weights:
        (path / weights).write_bytes(EMPTY_SAFETENSORS)
    return path


def test_equal_shapes_share_an_engine_and_others_do_not(tmp_path: Path):
    first = folder(tmp_path / "first", dtype="float32", _name_or_path="x", transformers_version="1")
    # Saving again writes other dtypes and versions, and the tokenizer's last padding: still the same engine.
    again = folder(
        tmp_path / "again", dtype="bfloat16", tokenizer={"model": {"vocab": {"a": 0}}, "padding": {"left": 3}}
    )
    wider = folder(tmp_path / "wider", hidden_size=128)
    tied = folder(tmp_path / "tied", tie_word_embeddings=True)
    words = folder(tmp_path / "words", tokenizer={"model": {"vocab": {"b": 0}}})
    torch_file = folder(tmp_path / "old", weights="pytorch_model.bin")
    everything = [first, wider, again, tied, words, torch_file]
    models, problems = read_models([str(path) for path in everything], "cpu")
    assert problems == []
    groups = [[model.name for model in group] for group in engine_groups(models)]
    assert groups == [["first", "again"], ["wider"], ["tied"], ["words"], ["old"]]


def test_other_end_tokens_need_another_engine(tmp_path: Path):
    one, other = folder(tmp_path / "one"), folder(tmp_path / "other")
    (one / "generation_config.json").write_text('{"eos_token_id": 1}')
    (other / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    models, _ = read_models([str(one), str(other)], "cpu")
    assert len(engine_groups(models)) == 2


@pytest.mark.parametrize(
    "paths, names",
    [
        (["runs/a/model", "runs/b/model"], ["a-model", "b-model"]),
        (["x", "y/z"], ["x", "z"]),
        (["/r/1/m", "/s/1/m", "/s/2/m"], ["r-1-m", "s-1-m", "2-m"]),
        (["./m/", "../n"], ["m", "n"]),
    ],
)
def test_short_names_tell_models_apart(paths: list[str], names: list[str]):
    assert short_names(paths) == names


def test_given_names_win_and_must_differ(tmp_path: Path):
    path = str(folder(tmp_path / "m"))
    models, problems = read_models([f"before={path}", f"after={path}"], "cpu")
    assert [model.name for model in models] == ["before", "after"] and problems == []
    _, problems = read_models([path, path], "cpu")
    assert "names 2 models" in str(problems[0])


def test_every_unusable_folder_is_named_at_once(tmp_path: Path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    empty = folder(tmp_path / "empty", weights="")
    (empty / "tokenizer.json").unlink()
    small_heads = folder(tmp_path / "heads", hidden_size=32)
    texts = [str(path) for path in (tmp_path / "none", adapter, empty, small_heads, tmp_path)]
    models, problems = read_models(texts, "cpu")
    said = "\n".join(map(str, problems))
    assert models == [] and len(problems) == 6
    assert "no such folder" in said and "empty" in said
    assert "openrlhf-ext merge" in said
    assert "no tokenizer" in said and "no weights" in said
    assert "attention heads of size 16" in said
    assert "give one of its folders: empty, heads" in said
    assert read_models([str(small_heads)], "cuda")[1] == []


def test_weights_that_are_no_safetensors_are_named(tmp_path: Path):
    path = folder(tmp_path / "m")
    (path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    models, problems = read_models([str(path)], "cpu")
    assert models == [] and "model.safetensors is no safetensors file" in str(problems[0])


def test_fingerprint_follows_the_weights(tmp_path: Path):
    path = folder(tmp_path / "m")
    before = fingerprint(path)
    assert fingerprint(path) == before
    os.utime(path / "model.safetensors", ns=(1, 1))
    assert fingerprint(path) != before
