"""The commands as a user types them."""

import argparse
import json
import subprocess
import sys

import pytest

from openrlhf_ext import prepare


def call(*words: object) -> int:
    parser = argparse.ArgumentParser(prog="openrlhf-ext")
    prepare.add_parser(parser.add_subparsers())
    args = parser.parse_args(["prepare", *map(str, words)])
    return args.func(args)


@pytest.mark.parametrize("name", prepare.COMMANDS)
def test_help_shows_an_example(name, capsys):
    with pytest.raises(SystemExit) as caught:
        call(name, "--help")
    assert caught.value.code == 0
    assert f"openrlhf-ext prepare {name} --" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["game24-puzzles"],
        ["game24-puzzles", "--out", "x", "--numbers", "9"],
        ["game24-traces", "--puzzles", "x", "--out", "y", "--nodes", "17-6"],
        ["game24-traces", "--puzzles", "x", "--out", "y", "--nodes", "six"],
        ["game24-traces", "--puzzles", "x", "--out", "y", "--buckets", "3,2,1"],
        ["chain", "--out", "x", "--modulus", "10"],
        ["chain", "--out", "x", "--steps", "none"],
        ["nothing"],
    ],
)
def test_argument_errors_exit_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        call(*words)
    assert caught.value.code == 2
    assert "error" in capsys.readouterr().err


def test_wrong_requests_exit_2_and_write_nothing(tmp_path, capsys):
    assert call("game24-traces", "--puzzles", tmp_path / "none.jsonl", "--out", tmp_path / "out") == 2
    assert "no such file" in capsys.readouterr().err
    assert call("prompts", "--task", "gsm8k", "--out", tmp_path / "out") == 2
    assert "--in is missing" in capsys.readouterr().err
    assert call("prompts", "--task", "chain", "--split", "dev", "--out", tmp_path / "out") == 2
    assert call("prompts", "--task", "game24", "--split", "test", "--template", "chat", "--out", tmp_path / "out") == 2
    assert "--tokenizer" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_unwritable_output_exits_1(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert call("chain", "--out", tmp_path / "file" / "below", "--train", 5, "--test", 5) == 1
    assert "error" in capsys.readouterr().err


def test_chain_rows(tmp_path):
    assert call("chain", "--out", tmp_path, "--steps", 2, "--train", 30, "--test", 20, "--max-operand", 9) == 0
    train, test = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("train.jsonl", "test.jsonl")
    )
    assert (len(train), len(test)) == (30, 20)
    assert not {row["question"] for row in train} & {row["question"] for row in test}
    assert all(set(row) == {"id", "question", "answer"} and row["answer"].count("\n") == 2 for row in train + test)
    assert len({row["id"] for row in train + test}) == 50


def test_chain_slips_are_a_file_of_their_own(tmp_path, capsys):
    assert call("chain", "--out", tmp_path / "a", "--train", 30, "--test", 20) == 0
    assert call("chain", "--out", tmp_path / "b", "--train", 30, "--test", 20, "--slips", 0.5, "--slips-from", 40) == 0
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    right, slipped = (
        [json.loads(line) for line in (tmp_path / "b" / name).read_text().splitlines()]
        for name in ("train.jsonl", "slips.jsonl")
    )
    assert [row["question"] for row in slipped] == [row["question"] for row in right]
    assert 0 < sum(a["answer"] != b["answer"] for a, b in zip(right, slipped, strict=True)) < 30
    assert call("chain", "--out", tmp_path / "c", "--slips", 1.5) == 2
    assert "--slips 1.5: a probability above 0, at most 1" in capsys.readouterr().err


def test_prompts_and_sft_of_chain_meet(tmp_path):
    call("chain", "--out", tmp_path, "--train", 5, "--test", 5)
    assert call("prompts", "--task", "chain", "--in", tmp_path, "--split", "train", "--out", tmp_path / "p.jsonl") == 0
    assert call("sft", "--from", tmp_path / "train.jsonl", "--out", tmp_path / "s.jsonl") == 0
    prompts, records = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()] for name in ("p.jsonl", "s.jsonl")
    )
    assert [row["input"] for row in prompts] == [row["input"] for row in records]
    for prompt, record in zip(prompts, records, strict=True):
        assert json.loads(prompt["label"])["answer"] == record["output"].rpartition("#### ")[2]


def test_generated_prompts(tmp_path):
    assert call("prompts", "--task", "game24", "--split", "test", "--out", tmp_path / "p.jsonl") == 0
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 100


def test_light_commands_do_not_import_heavy_libraries():
    code = "import sys, openrlhf_ext.prepare as p, argparse; p.add_parser(argparse.ArgumentParser().add_subparsers())\n"
    code += "print(sorted({'torch', 'transformers', 'ray', 'vllm', 'datasets', 'sympy', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
