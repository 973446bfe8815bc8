"""Texts through the model's own tokenizer: what would be lost, cut or never end is found before the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from openrlhf_ext.config.load import load
from openrlhf_ext.config.problem import Problem, errors, notes
from openrlhf_ext.memory import read_shape
from openrlhf_ext.preflight_data import Rows
from openrlhf_ext.preflight_tokens import token_problems
from openrlhf_ext.prepare.word_tokenizer import word_level_tokenizer
from openrlhf_ext.tasks.game24.tokenizer import PIECES

CONFIG = {
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 4000,
    "max_position_embeddings": 512,
}
TRACE = "(13) - (2) = 11, left: (13 - 2) = 11, 2, 2\n(11) * (2) = 22, left: ((13 - 2) * 2) = 22, 2"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The same word-level tokenizer beside a Llama-shaped and a Qwen2-shaped model."""
    made = {}
    for model_type in ("llama", "qwen2"):
        folder = tmp_path_factory.mktemp(model_type)
        word_level_tokenizer(PIECES, 3, max_length=512).save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps(CONFIG | {"model_type": model_type}))
        made[model_type] = folder
    return made


def look(folder: Path, texts: list[str], outputs: list[str] | None = None, **changes: object) -> list[Problem]:
    method = "sft" if outputs else "grpo"
    settings = {"data.max_len": 64, ("model" if outputs else "actor") + ".model_name_or_path": folder}
    if not outputs:
        settings["rollout.max_new_tokens"] = 50
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    resolved = load(method, None, [(key, str(value)) for key, value in settings.items()])
    rows = [{"input": t} | ({"output": o} if outputs else {}) for t, o in zip(texts, outputs or texts, strict=True)]
    places = [f"rows.jsonl line {i + 1}" for i in range(len(rows))]
    key = "data.dataset" if outputs else "data.prompt_dataset"
    return token_problems(resolved, Rows(key, "input", rows, places), (), read_shape(folder))


def test_a_tokenizer_that_keeps_the_text_is_fine(folders):
    assert look(folders["llama"], ["13 2 2 2\n", "1 2 3 4\n"]) == []
    assert look(folders["llama"], ["13 2 2 2\n"], [TRACE], data__max_len=128) == []


def test_the_class_trap_of_transformers_is_found(folders):
    (problem,) = errors(look(folders["qwen2"], ["13 2 2 2\n"]))
    assert "13 2 2 2" in problem.what
    assert "by the model's type" in problem.fix


def test_unknown_letters_are_found(folders):
    (problem,) = look(folders["llama"], ["13 2 2 2\n", "中 2 2 2\n"])
    assert "rows.jsonl line 2 holds text that the tokenizer does not know" in problem.what


def test_long_prompts_are_counted_and_the_fix_fits(folders):
    texts = ["1 2 3 4\n", "1 2 3 4 5 6 7 8 9\n", "1 2 3 4 5 6 7 8\n"]  # 8, 18 and 16 tokens; 14 fit
    (problem,) = look(folders["llama"], texts)
    assert "2 of 3 prompts are longer than the 14 tokens" in problem.what
    assert "longest 18, rows.jsonl line 2" in problem.what
    assert problem.fix.startswith("--data.max_len 68")
    assert look(folders["llama"], texts, data__max_len=68) == []
    assert look(folders["llama"], texts, data__max_len=67) != []


def test_long_records_are_counted_and_the_fix_fits(folders):
    texts, outputs = ["1 2 3 4\n", "1\n"], ["1 " * 40 + "1", "1"]
    (problem,) = look(folders["llama"], texts, outputs)
    assert "1 of 2 records are longer than 64 tokens" in problem.what
    limit = int(problem.fix.split()[1].rstrip(","))
    assert look(folders["llama"], texts, outputs, data__max_len=limit) == []


def test_the_template_counts(folders):
    assert look(folders["llama"], ["1 2 3 4\n"]) == []
    found = look(folders["llama"], ["1 2 3 4\n"], data__input_template="1 2 3 4 5 6 7 8 9\n{}")
    assert ["longer than the 14 tokens" in p.what for p in errors(found)] == [True]


def test_a_chat_template_must_exist(folders):
    (problem,) = look(folders["llama"], ["1 2 3 4\n"], data__apply_chat_template="true")
    assert "no chat template" in problem.what


def test_more_tokens_than_the_embedding_has(folders, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folders["llama"] / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"model_type": "llama", "vocab_size": 10}))
    assert any("the model's embedding 10" in p.what for p in errors(look(tmp_path, ["1 2 3 4\n"])))


def byte_level(folder: Path, **special: str) -> Path:
    """A byte-level BPE that merges "ab" into one token, beside a Llama-shaped model."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*alphabet, "ab", "<eos>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"model_type": "llama"}))
    return folder


def test_a_letter_may_be_several_tokens(tmp_path):
    """40 letters of 3 bytes each, none merged: 120 tokens; with `x`, the line break and the end token 123."""
    folder = byte_level(tmp_path, eos_token="<eos>")
    letters = "\u4e2d" * 40
    (problem,) = errors(look(folder, ["x\n"], [letters]))
    assert "1 of 1 records are longer than 64 tokens (longest 123, rows.jsonl line 1)" in problem.what
    assert errors(look(folder, ["x\n"], [letters], data__max_len=123)) == []
    (problem,) = errors(look(folder, [letters], data__max_len=169))
    assert "1 of 1 prompts are longer than the 119 tokens" in problem.what and "longest 120" in problem.what
    assert errors(look(folder, [letters], data__max_len=170)) == []


def test_a_token_across_the_end_of_the_prompt_is_remarked_on(tmp_path):
    folder = byte_level(tmp_path, eos_token="<eos>")
    (note,) = notes(look(folder, ["xa"], ["b<eos>"]))
    assert "in 1 of the first 1 records a token spans the end of the prompt" in note.what
    assert look(folder, ["x\n"], ["b<eos>"]) == []


def test_a_blank_before_the_end_is_remarked_on(tmp_path):
    folder = byte_level(tmp_path, eos_token="<eos>")
    (note,) = notes(look(folder, ["x\n"], ["b"]))
    assert "adds a blank" in note.what
    assert "<eos>" in note.fix


def test_answers_must_be_able_to_end(tmp_path):
    found = look(byte_level(tmp_path), ["x\n"])
    assert ["no end-of-sequence token" in p.what for p in errors(found)] == [True]


def test_without_transformers_it_says_so(folders, monkeypatch):
    from openrlhf_ext import preflight_tokens

    monkeypatch.setattr(preflight_tokens.util, "find_spec", lambda name: None)
    (note,) = look(folders["llama"], ["1 2 3 4\n"])
    assert note.note
    assert "not installed" in note.what
