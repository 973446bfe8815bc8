"""`prepare reverse-curriculum`: rows that continue to the gold solution, in every template, unit and mode."""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from openrlhf_ext import prepare
from openrlhf_ext.data.prompts import read_problems, render
from openrlhf_ext.prepare.prompts import build_prompts
from openrlhf_ext.prepare.reverse_curriculum import build_reverse_curriculum

KEYS = ["input", "label", "datasource", "stage", "prefix_units", "units", "id", "completion"]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\n' }}"


def call(*words: object) -> int:
    parser = argparse.ArgumentParser(prog="openrlhf-ext")
    prepare.add_parser(parser.add_subparsers())
    args = parser.parse_args(["prepare", "reverse-curriculum", *map(str, words)])
    return args.func(args)


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    """Demonstrations of 3, 1 and 0 lines."""
    rows = [
        {"question": "Q1", "answer": "a1\na2 €\na3\n#### 1"},
        {"question": "Q2", "answer": "b1\n#### 2"},
        {"question": "Q3", "answer": "#### 3"},
    ]
    path = tmp_path / "demos.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer with a chat template; nothing is merged across it, so `€` is three tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIALS, initial_alphabet=letters)
    tokenizer.train_from_iterator(["arcade thoughtful fruits The premise says so"] * 3, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIALS[2], pad_token=SPECIALS[0])
    fast.chat_template = CHAT
    folder = tmp_path_factory.mktemp("bytes")
    fast.save_pretrained(folder)
    return folder


def test_rows_as_they_are_written(demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / "staged.jsonl"
    assert call("--task", "gsm8k", "--demos", demos, "--out", out, "--mode", "staged", "--stages", 3) == 0
    rows = read(out)
    assert all(list(row) == KEYS for row in rows)
    assert [row["stage"] for row in rows] == [2, 2, 2, 1, 1, 1, 0, 0, 0]
    first = {row["stage"]: row for row in rows if row["id"] == "gsm8k_0"}
    assert first[2] == {
        "input": "Q1\na1\na2 €\n",
        "label": '{"answer": "1"}',
        "datasource": "stage_2",
        "stage": 2,
        "prefix_units": 2,
        "units": 3,
        "id": "gsm8k_0",
        "completion": "a3\n#### 1",
    }
    assert (first[1]["input"], first[0]["input"]) == ("Q1\na1\n", "Q1\n")
    assert {(row["id"], row["units"], row["prefix_units"]) for row in rows if row["id"] != "gsm8k_0"} == {
        ("gsm8k_1", 1, 0),
        ("gsm8k_2", 0, 0),
    }
    assert capsys.readouterr().out == (
        f"{out}: 9 rows from 3 demonstrations\n"
        "  2 demonstrations have fewer than 2 units: all their rows start from the question (k = 0)\n"
    )


@pytest.mark.parametrize("mode", ["mixed", "staged", "plain"])
def test_modes_hold_the_same_rows(demos: Path, tmp_path: Path, mode: str) -> None:
    build_reverse_curriculum("gsm8k", demos, tmp_path / "m.jsonl")
    build_reverse_curriculum("gsm8k", demos, tmp_path / "x.jsonl", mode=mode)
    mixed, rows = read(tmp_path / "m.jsonl"), read(tmp_path / "x.jsonl")
    assert len(mixed) == 15
    expected = [row for row in mixed if mode != "plain" or row["prefix_units"] == row["stage"] == 0]
    assert sorted(map(str, rows)) == sorted(map(str, expected))


def test_a_seed_is_an_order(demos: Path, tmp_path: Path) -> None:
    texts = []
    for seed in (1, 1, 2):
        build_reverse_curriculum("gsm8k", demos, tmp_path / "s.jsonl", seed=seed)
        texts.append((tmp_path / "s.jsonl").read_text())
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("template", ["plain", "alpaca", "chat"])
@pytest.mark.parametrize("unit", ["line", "sentence", "token"])
def test_the_prompt_continues_with_the_demonstration(
    demos: Path, model: Path, tmp_path: Path, template: str, unit: str
) -> None:
    """Behind the evaluation prompt, byte for byte that of `prepare prompts`, prefix and completion spell the gold text."""
    out, prompts = tmp_path / "rows.jsonl", tmp_path / "prompts.jsonl"
    build_reverse_curriculum("gsm8k", demos, out, unit=unit, template=template, tokenizer=str(model), system="S")
    build_prompts("gsm8k", prompts, demos, template=template, tokenizer=str(model), system="S")
    gold = [json.loads(line)["answer"] for line in demos.read_text().splitlines()]
    evaluation = read(prompts)
    for row in read(out):
        number = int(row["id"].removeprefix("gsm8k_"))
        assert row["input"].startswith(evaluation[number]["input"])
        prefix = row["input"].removeprefix(evaluation[number]["input"])
        assert prefix + row["completion"] == gold[number]
        assert (prefix == "") == (row["prefix_units"] == 0)
        assert row["label"] == evaluation[number]["label"]
        assert row["completion"].endswith(f"#### {number + 1}")


def test_a_chat_prefix_is_the_assistants(demos: Path, model: Path, tmp_path: Path) -> None:
    build_reverse_curriculum("gsm8k", demos, tmp_path / "c.jsonl", template="chat", tokenizer=str(model), system="S")
    (last,) = [row for row in read(tmp_path / "c.jsonl") if (row["id"], row["stage"]) == ("gsm8k_0", 4)]
    assert last["input"] == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\na1\na2 €\n"
    )


def test_token_cuts_fall_inside_words_but_never_inside_letters(model: Path, tmp_path: Path) -> None:
    demos = tmp_path / "nli.jsonl"
    text = "unmerged € words ### yes"
    demos.write_text(json.dumps({"instruction": "P", "input": "", "output": text}) + "\n")
    build_reverse_curriculum("mnli-r3", demos, tmp_path / "o.jsonl", stages=40, tokenizer=str(model))
    rows = read(tmp_path / "o.jsonl")
    prefixes = {row["prefix_units"]: row["input"].removeprefix("P\n") for row in rows}
    assert all(prefixes[row["prefix_units"]] + row["completion"] == text for row in rows)
    assert any(prefix and not prefix.endswith(" ") and prefix[-1].isalpha() for prefix in prefixes.values())
    assert {row["units"] for row in rows} == {len(prefixes)} == {len("unmerged € words") - merged(model)}
    assert all(row["completion"].endswith(" ### yes") and row["completion"] != " ### yes" for row in rows)


def merged(model: Path) -> int:
    """Characters that this tokenizer saves: those of merged tokens."""
    from transformers import AutoTokenizer

    text = "unmerged € words"
    return len(text) - len(
        {end for _, end in AutoTokenizer.from_pretrained(model)(text, return_offsets_mapping=True)["offset_mapping"]}
    )


def test_rows_without_room_are_left_out_and_listed(
    demos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    need = {
        row["answer"]: 1 + len(tokenizer(row["question"] + "\n" + row["answer"])["input_ids"]) for row in read(demos)
    }
    longest = max(need.values())
    words = [
        "--task",
        "gsm8k",
        "--demos",
        demos,
        "--out",
        tmp_path / "o.jsonl",
        "--tokenizer",
        model,
        "--mode",
        "plain",
    ]
    assert call(*words, "--max-tokens", longest) == 0
    assert len(read(tmp_path / "o.jsonl")) == 3
    assert call(*words, "--max-tokens", longest - 1) == 0
    assert {row["id"] for row in read(tmp_path / "o.jsonl")} == {"gsm8k_1", "gsm8k_2"}
    told = capsys.readouterr().out
    assert (
        f"left out 1 rows without room to generate: gsm8k_0 stage 0 (prompt 3, room {longest - 4}, needs {longest - 3})"
        in told
    )
    assert call(*words, "--max-tokens", 2) == 2
    assert "--max-tokens 2 leaves no row" in capsys.readouterr().err


def test_wrong_requests_exit_2_and_write_nothing(
    demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    words = ["--demos", demos, "--out", out]
    assert call("--task", "mnli-r3", *words) == 2
    assert "--unit token needs --tokenizer" in capsys.readouterr().err
    assert call("--task", "gsm8k", *words, "--max-tokens", 5) == 2
    assert "--max-tokens needs --tokenizer" in capsys.readouterr().err
    assert call("--task", "gsm8k", *words, "--template", "chat") == 2
    assert "--template chat needs --tokenizer" in capsys.readouterr().err
    assert call("--task", "gsm8k", "--demos", tmp_path / "none.jsonl", "--out", out) == 2
    assert "no such file" in capsys.readouterr().err
    demos.write_text(demos.read_text() + '{"question": "Q4", "answer": ""}\n{"question": "Q5"}\n')
    assert call("--task", "gsm8k", *words) == 2
    assert f"error: {demos}:4: answer: empty\nerror: {demos}:5: answer: missing" in capsys.readouterr().err
    assert not out.exists()


def test_gsm8k_as_published(shared_data: Path, tmp_path: Path) -> None:
    """Every row of the real training set: 7473 x 5, the line counts of the facts, the rule, the gold text, the evaluation prompt."""
    source = shared_data / "gsm8k/train.jsonl"
    out = tmp_path / "gsm8k.jsonl"
    began = time.process_time()
    summary = build_reverse_curriculum("gsm8k", source, out)
    assert time.process_time() - began < 20, "seconds of one core; 3 on the machine of the page"
    assert (summary.rows, summary.demonstrations, summary.rejected) == (37365, 7473, ())
    problems = read_problems("gsm8k", source)
    lines: dict[str, int] = {}
    for row in read(out):
        problem = problems[int(row["id"].removeprefix("gsm8k_"))]
        assert row["input"] + row["completion"] == render(problem.question, "plain") + str(problem.solution)
        assert row["prefix_units"] == min(row["units"] - 1, round(row["stage"] * row["units"] / 5))
        assert json.loads(row["label"]) == problem.label
        lines[row["id"]] = row["units"]
    assert Counter(lines.values()) == {2: 1960, 3: 2149, 4: 1660, 5: 954, 6: 419, 7: 228, 8: 90, 9: 13}


@pytest.mark.parametrize(
    ("task", "name", "unit", "count"),
    [
        ("boardgameqa", "boardgame_train_example", None, 500),
        ("mnli-r3", "mnli_train_example", "sentence", 300),
        ("snli-r3", "snli_train_example", "sentence", 300),
        ("race", "raceHigh_train_example", "sentence", 300),
    ],
)
def test_label_tasks_as_released(
    shared_data: Path, tmp_path: Path, task: str, name: str, unit: str | None, count: int
) -> None:
    source = shared_data / f"r3_nlu/{name}.json"
    summary = build_reverse_curriculum(task, source, tmp_path / "o.jsonl", unit=unit)
    assert (summary.rows, summary.demonstrations, summary.rejected) == (5 * count, count, ())
    released = json.loads(source.read_text(encoding="utf-8"))
    for row in read(tmp_path / "o.jsonl"):
        source_row = released[int(row["id"].rpartition("_")[2])]
        assert row["input"] + row["completion"] == f"{source_row['instruction']}\n{source_row['output']}"
    if task == "boardgameqa":  # the facts: a third of the released mixed rows come from demonstrations of one sentence
        assert 0.28 < summary.short / count < 0.38
