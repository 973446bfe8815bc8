"""The command line of `collect`: every problem at once with exit code 2 and nothing written; what reaches the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openrlhf_ext.cli import main
from openrlhf_ext.collect.request import Checked
from openrlhf_ext.collect.steps import step_reader, token_offsets
from openrlhf_ext.prepare.tiny_model import build_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny_model(folder, task="chain", layers=1, hidden=64, heads=2, context=64)
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    rows = [{"input": f"{i}+1 mod 100\n", "label": json.dumps({"answer": str(i + 1)})} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def words(model: Path, prompts: Path, out: Path) -> list[str]:
    return ["--model", str(model), "--task", "chain", "--prompts", str(prompts), "--n", "2", "--out", str(out)]


def refusal(given: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["collect", *given]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Checked]:
    """What requests reach the run."""
    seen: list[Checked] = []
    monkeypatch.setattr("openrlhf_ext.collect.command._run", lambda request, *_: seen.append(request) or 0)
    return seen


def test_all_problems_of_a_request_are_listed_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1", "answer": "#### 2"}\n{"question": "1+1"}\n')
    given = words(tmp_path / "none", tmp_path / "rows.jsonl", tmp_path / "out.parquet")
    given[given.index("--n") + 1] = "0"
    said = refusal(
        [*given, "--top-p", "2", "--top-k", "0", "--outt", "x", "--engines", "0", "--limit", "-1", "--stop", ""], capsys
    )
    assert said.startswith("10 problems, nothing was started:")
    for part in (
        "--outt: no such option\n    fix: did you mean '--out'?",
        "--engines: 0",
        "--n: 0",
        "--limit: -1",
        "--top-p: 2.0",
        "--top-k: 0",
        "--stop: an empty text",
        "rows.jsonl:2: answer: missing",
        "no such folder",
    ):
        assert part in said, part
    assert "out.parquet is no .jsonl file" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


def test_the_task_has_to_be_named_and_known(
    tmp_path: Path, model: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words(model, prompts, tmp_path / "o.jsonl")
    at = given.index("--task")
    said = refusal(given[:at] + given[at + 2 :], capsys)
    assert "--task: missing" in said and said.startswith("1 problem,")
    given[at + 1] = "chian"
    assert "did you mean 'chain'" in refusal(given, capsys)


def test_a_request_is_made_ready(tmp_path: Path, model: Path, prompts: Path, checked: list[Checked]) -> None:
    assert main(["collect", *words(model, prompts, tmp_path / "o.jsonl"), "--limit", "3", "--stop", r"\n\n"]) == 0
    request = checked[0]
    assert [prompt.text for prompt in request.prompts] == ["0+1 mod 100\n", "1+1 mod 100\n", "2+1 mod 100\n"]
    assert (request.plan.problems, request.plan.samples, request.plan.total) == (3, 2, 6)
    assert request.plan.temperature == 0.7 and request.request.stop == ("\n\n",)
    # 8 tokens of prompt leave 56 of 64 positions.
    assert request.length == 64 and request.max_new_tokens == 64 - max_prompt(request)
    assert request.policy.startswith("tiny@") and len(request.policy) == len("tiny@") + 16
    assert list(tmp_path.iterdir()) == [prompts]  # nothing is written before the run


def max_prompt(request: Checked) -> int:
    return max(len(request.tokenizer(p.text, add_special_tokens=False)["input_ids"]) for p in request.prompts)


def test_released_files_are_rendered(tmp_path: Path, model: Path, checked: list[Checked]) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"question": "7+5 mod 100", "answer": "7+5=12\n#### 12"}) + "\n")
    assert main(["collect", *words(model, path, tmp_path / "o.jsonl")]) == 0
    assert checked[0].prompts[0].text == "7+5 mod 100\n"
    assert json.loads(checked[0].prompts[0].label) == {"answer": "12"}


def test_plain_prompts_with_labels_are_taken_whole(tmp_path: Path, model: Path, checked: list[Checked]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "7+5", "label": {"answer": "12"}}) + "\n")
    assert main(["collect", *words(model, path, tmp_path / "o.jsonl")]) == 0
    assert checked[0].prompts[0].text == "7+5"


def test_half_written_prompts_are_named_and_skipped(
    tmp_path: Path, model: Path, prompts: Path, checked: list[Checked], capsys: pytest.CaptureFixture[str]
) -> None:
    for source, kept in ((prompts, len(prompts.read_text().splitlines())), (tmp_path / "released.jsonl", 1)):
        if kept == 1:
            source.write_text('{"question": "7+5 mod 100", "answer": "7+5=12\\n#### 12"}\n')
        with source.open("a") as file:
            file.write('{"question": "7+')
        assert main(["collect", *words(model, source, tmp_path / "o.jsonl")]) == 0
        assert len(checked.pop().prompts) == kept
        assert f"skipped 1 half-written lines: {source}:{kept + 1}" in capsys.readouterr().err


def test_lengths_are_checked_as_evaluate_does(
    tmp_path: Path, model: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal([*words(model, prompts, tmp_path / "o.jsonl"), "--max-new-tokens", "64"], capsys)
    assert "64 new tokens do not fit its 64 positions" in said and "--max-new-tokens 5" in said


def test_samples_of_temperature_zero_are_refused(
    tmp_path: Path, model: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal([*words(model, prompts, tmp_path / "o.jsonl"), "--temperature", "0"], capsys)
    assert "would be the same response" in said


def test_steps_begin_in_the_sampled_tokens(tmp_path: Path, model: Path, prompts: Path, checked: list[Checked]) -> None:
    assert main(["collect", *words(model, prompts, tmp_path / "o.jsonl")]) == 0
    tokenizer, task = checked[0].tokenizer, checked[0].task
    text = "7+5=12\n#### 12"
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    offsets = token_offsets(ids, tokenizer)
    assert "".join(text[start:end] for start, end in offsets) == text and offsets[-1] == (len(text), len(text))
    first, second = step_reader(tokenizer, task)(ids, text)
    assert first == 0 and tokenizer.decode(ids[:second]) == "7+5=12\n"
    assert len(step_reader(tokenizer, task, ("=", "\n"))(ids, text)) == 3
    # A text that ends early, at a stop string, has the steps that are left.
    assert step_reader(tokenizer, task)(ids, "7+5=12\n") == [0]
