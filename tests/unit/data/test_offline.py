"""Offline data: what is used, what is left out and counted, and what is refused by file, line and field."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from openrlhf_ext.data.offline import Encoded, Reading, read_offline, tokenise
from openrlhf_ext.data.steps import split_after
from openrlhf_ext.evaluate.heldout import evaluation_row
from openrlhf_ext.tasks.base import Verdict

END = 99


def row(**changes: object) -> dict:
    base: dict = {
        "prompt": "p",
        "label": "{}",
        "observation_tokens": [1, 2, 3, 4, 5],
        "action_ranges": [[2, 5]],
        "rollout_log_probs": None,
        "reward": 1.0,
        "scores": None,
        "truncated": False,
        "extra_logs": {},
    }
    return base | changes


def save(path: Path, *rows: Mapping[str, object] | str) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def letters(text: str) -> Encoded:
    """One token per character but "ab", which is one token: 50."""
    parts = re.findall("ab|.", text, re.S)
    ids = [50 if part == "ab" else ord(part) % 50 for part in parts]
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    return Encoded(ids, [(end - len(part), end) for part, end in zip(parts, ends, strict=True)])


def ids(text: str) -> list[int]:
    return letters(text).ids


def test_failures_stay_and_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    path = save(
        tmp_path / "t.jsonl",
        row(),
        row(reward=0.0, id="failed"),
        row(truncated=True),
        row(action_ranges=[]),
        row(action_ranges=[[3, 3]]),
        row(observation_tokens=[1] * 9, action_ranges=[[2, 9]]),
        row(observation_tokens=[1] * 9, action_ranges=[[6, 9]]),
    )
    data = read_offline(path, Reading(max_length=6))
    assert [r["reward"] for r in data.trajectories] == [1.0, 0.0]
    assert data.dropped == {"truncated": 1, "no actions": 2, "too long": 1, "prompt too long": 1}
    assert data.notes == [
        f"{path}: left out 1 truncated, 2 no actions, 1 too long, 1 prompt too long of 7 trajectories"
    ]
    assert data.tokenised == 0


def test_an_observation_after_the_last_action_does_not_make_a_trajectory_too_long(tmp_path: Path) -> None:
    path = save(tmp_path / "t.jsonl", row(observation_tokens=list(range(9))), row(reward=0))
    assert read_offline(path, Reading(max_length=5)).dropped == {}


def test_every_fault_is_named_by_line_and_field(tmp_path: Path) -> None:
    path = save(
        tmp_path / "t.jsonl",
        row(reward=2),
        row(reward=None),
        "{",
        row(observation_tokens=[1, 2, 77, 4, 5]),
        row(action_ranges=[[0, 5]]),
        row(step_starts=[1]),
        row(text="other"),
        {"prompt": "p", "reward": "high", "response": "r"},
        row(reward=float("nan")),
    )
    reading = Reading(vocabulary=60, encode=letters, end_id=END, decode=lambda tokens: "spelled")
    with pytest.raises(ValueError) as refused:
        read_offline(path, reading)
    lines = str(refused.value).split("\n")
    want = [
        "1: reward: 2 is outside the declared scale [0, 1]",
        "2: reward: null; grade the responses first",
        "3: not JSON",
        "4: observation_tokens: id 77 at position 2 is none of the tokenizer's 60",
        "5: action_ranges: [0, 5) begins at token 0",
        "6: step_starts: 1 is in no action range",
        "7: text: 'other', but the tokens spell 'spelled'",
        "8: reward: expected a number, found str",
        "9: reward: nan is outside the declared scale",
    ]
    assert len(lines) == len(want)
    assert all(line.startswith(f"{path}:{start}") for line, start in zip(lines, want, strict=True)), lines


def test_another_scale_is_one_explicit_choice(tmp_path: Path) -> None:
    path = save(tmp_path / "t.jsonl", row(reward=-1.0), row(reward=1.0))
    with pytest.raises(ValueError, match="-1 is outside the declared scale"):
        read_offline(path, Reading())
    assert len(read_offline(path, Reading(reward_range=(-1.0, 1.0))).trajectories) == 2


def test_data_that_cannot_teach_is_refused_or_noted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all 2 usable trajectories have the lowest reward 0"):
        read_offline(save(tmp_path / "f.jsonl", row(reward=0), row(reward=0)), Reading())
    (note,) = read_offline(save(tmp_path / "s.jsonl", row()), Reading()).notes
    assert "no failures among 1 trajectories" in note
    with pytest.raises(ValueError, match=r"no usable trajectory \(left out: 1 truncated\)"):
        read_offline(save(tmp_path / "t.jsonl", row(truncated=True)), Reading())
    with pytest.raises(ValueError, match="the file is empty"):
        read_offline(save(tmp_path / "e.jsonl"), Reading())


def test_plain_rows_are_tokenised_once_and_that_is_said(tmp_path: Path) -> None:
    rows = [{"prompt": "q\n", "response": "x=1\n# 1", "reward": 1}, {"prompt": "q\n", "response": "y", "reward": 0}]
    path = save(tmp_path / "t.jsonl", *rows, row())
    reading = Reading(encode=letters, end_id=END, split=lambda text: split_after(text, ["\n"]))
    data = read_offline(path, reading)
    first = data.trajectories[0]
    assert first["observation_tokens"] == [*ids("q\nx=1\n# 1"), END]
    assert first["action_ranges"] == [(2, 10)] and first["step_starts"] == [2, 6]
    assert first["text"] == "x=1\n# 1" and first["rollout_log_probs"] is None
    assert data.tokenised == 2 and data.notes == [
        f"{path}: 2 plain rows were tokenised; trajectories keep the sampled tokens"
    ]


def test_graded_answers_of_an_evaluation_are_plain_rows(tmp_path: Path) -> None:
    response = {"prompt": "q", "label": "{}", "text": "ab", "truncated": False, "action_ranges": [(1, 3)]}
    verdict = Verdict(reward=0.0, correct=False, parsed=True, metrics={})
    graded = {"problem_id": 3, "mode": "sampled", "sample": 0} | evaluation_row(response, verdict, None)
    path = save(tmp_path / "results.jsonl", graded, graded | {"truncated": True}, graded | {"reward": 1})
    data = read_offline(path, Reading(encode=letters, end_id=END))
    assert [(r["reward"], r["text"], r["problem_id"]) for r in data.trajectories] == [(0.0, "ab", 3), (1.0, "ab", 3)]
    assert data.trajectories[0]["observation_tokens"] == [*ids("q"), 50, END]
    assert data.dropped == {"truncated": 1} and data.tokenised == 3


def test_plain_rows_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "t.jsonl", {"prompt": "q", "response": "x", "reward": 1})
    with pytest.raises(ValueError, match=r"t.jsonl:1: response: a plain row needs a tokenizer"):
        read_offline(path, Reading())


def test_the_end_token_follows_the_text_directly() -> None:
    assert tokenise("q", "xy", letters, END)[0] == [*ids("qxy"), END]  # no space before it
    ended = lambda text: Encoded([*ids(text), END], [*letters(text).offsets, (len(text), len(text))])  # noqa: E731
    assert tokenise("q", "xy", lambda text: ended(text) if text.endswith("y") else letters(text), END)[0] == [
        *ids("qxy"),
        END,
    ]


def test_a_token_across_the_border_does_not_change_the_prompt() -> None:
    # "a" + "b" would merge into one token; generation starts after the prompt's own tokens.
    tokens, begin, tail = tokenise("qa", "bc", letters, END)
    assert tokens == [*ids("qa"), *ids("bc"), END] and begin == 2
    assert tail.offsets == [(0, 1), (1, 2), (2, 2)]
    assert tokenise("q", "abc", letters, END)[0] == [*ids("q"), 50, *ids("c"), END]


def test_missing_files_are_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_offline(tmp_path / "none.jsonl", Reading())
