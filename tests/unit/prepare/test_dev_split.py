"""`prepare reverse-curriculum --hold-out`: a dev split that no mode trains on; and the limit on prompts alone."""

import argparse
import json
from pathlib import Path

import pytest

from openrlhf_ext import prepare
from openrlhf_ext.data.reverse import Demonstration
from openrlhf_ext.prepare.dev_split import hold_out
from openrlhf_ext.prepare.row_lengths import Limits


def demonstration(name: str, question: str) -> Demonstration:
    return Demonstration(name, question, "a\n", "#### 1", {"answer": "1"})


def call(*words: object) -> int:
    parser = argparse.ArgumentParser(prog="openrlhf-ext")
    prepare.add_parser(parser.add_subparsers())
    args = parser.parse_args(["prepare", "reverse-curriculum", "--task", "gsm8k", *map(str, words)])
    return args.func(args)


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    path = tmp_path / "demos.jsonl"
    rows = [{"id": f"d{i}", "question": f"Q{i}", "answer": f"one {i}\ntwo\n#### {i}"} for i in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_mode_holds_out_the_same(demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held, seen = [], []
    for mode in ("mixed", "staged", "plain"):
        out = tmp_path / f"{mode}.jsonl"
        assert call("--demos", demos, "--out", out, "--mode", mode, "--hold-out", 3) == 0
        held.append(read(tmp_path / f"{mode}.dev.jsonl"))
        seen.append({row["id"] for row in read(out)})
    assert held[0] == held[1] == held[2]
    assert len(held[0]) == 3 and len(seen[0]) == 9
    assert seen[0] == seen[1] == seen[2] == {f"d{i}" for i in range(12)} - {row["id"] for row in held[0]}
    row = held[0][0]
    number = row["id"][1:]
    assert row["input"] == f"Q{number}\n" and row["label"] == json.dumps({"answer": number})
    assert (row["datasource"], row["stage"], row["prefix_units"]) == ("gsm8k", 0, 0)
    assert "3 more demonstrations are held out" in capsys.readouterr().out


def test_without_the_option_nothing_is_held_out(demos: Path, tmp_path: Path) -> None:
    assert call("--demos", demos, "--out", tmp_path / "mixed.jsonl") == 0
    assert len({row["id"] for row in read(tmp_path / "mixed.jsonl")}) == 12
    assert not (tmp_path / "mixed.dev.jsonl").exists()


def test_another_seed_is_another_split(demos: Path, tmp_path: Path) -> None:
    splits = set()
    for seed in range(4):
        assert call("--demos", demos, "--out", tmp_path / "m.jsonl", "--hold-out", 4, "--seed", seed) == 0
        splits.add(tuple(row["id"] for row in read(tmp_path / "m.dev.jsonl")))
    assert len(splits) > 1


def test_a_question_is_on_one_side_only() -> None:
    """Q0 has two demonstrations: whichever of them is drawn, the other is not trained on."""
    items = [demonstration("a", "Q0"), demonstration("b", "Q0"), demonstration("c", "Q1"), demonstration("d", "Q2")]
    for seed in range(20):
        training, dev = hold_out(items, 2, seed)
        assert len(dev) == 2
        assert not {one.question for one in training} & {one.question for one in dev}


def test_holding_out_everything_is_refused(demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--demos", demos, "--out", tmp_path / "m.jsonl", "--hold-out", 12) == 2
    assert "--hold-out 12 of 12 demonstrations leaves none to train on" in capsys.readouterr().err
    assert not (tmp_path / "m.jsonl").exists()


class Letters:
    """A token is a character."""

    def __call__(self, texts: list[str], add_special_tokens: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        (Limits(8, 4), None),
        (Limits(8, 3), "d0 stage 1 (prompt 4, at most 3)"),
        (Limits(7, 4), "d0 stage 1 (prompt 4, room 3, needs 4)"),
        (Limits(None, 3), "d0 stage 1 (prompt 4, at most 3)"),
        (Limits(), None),
    ],
)
def test_limits_on_a_prompt_of_4_and_a_completion_of_3(limits: Limits, fault: str | None) -> None:
    row = {"id": "d0", "stage": 1, "input": "abcd", "completion": "efg"}
    kept, too_long = limits.within([row], Letters())  # type: ignore[arg-type]
    assert (kept, too_long) == (([row], []) if fault is None else ([], [fault]))
