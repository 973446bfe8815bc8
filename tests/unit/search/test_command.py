"""The command line of `search`: every problem at once with exit code 2 and nothing written; what reaches the run; resumed by arm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openrlhf_ext.cli import main
from openrlhf_ext.evaluate.results import REQUEST
from openrlhf_ext.prepare.tiny_model import build_tiny_model
from openrlhf_ext.search.request import Checked


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`policy`; `value`, with a head; `other`, a value network of another vocabulary."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("models")
    for name, task in (("policy", "chain"), ("value", "chain"), ("other", "game24")):
        build_tiny_model(folder / name, task=task, layers=1, hidden=64, heads=2, context=64)
        if name != "policy":
            weights = load_file(folder / name / "model.safetensors")
            save_file(weights | {"score.weight": torch.zeros(1, 64)}, folder / name / "model.safetensors")
    rows = [{"question": f"{i}+1 mod 100", "answer": f"{i}+1={i + 1}\n#### {i + 1}"} for i in range(4)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def words(models: Path, out: Path, value: str = "value") -> list[str]:
    who = ["--policy", str(models / "policy"), "--value", str(models / value)]
    return [*who, "--suite", "chain", "--data", str(models / "test.jsonl"), "--out", str(out)]


def refusal(given: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["search", *given]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Checked]:
    """What requests reach the run."""
    seen: list[Checked] = []
    monkeypatch.setattr("openrlhf_ext.search.command._run", lambda request, *_: seen.append(request) or 0)
    return seen


def test_all_problems_of_a_request_are_listed_at_once(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--policy", str(tmp_path / "none"), "--value", str(models / "policy"), "--suite", "chian"]
    more = ["--beams", "3", "0", "3", "--temperature", "0", "--max-steps", "0", "--value-workers", "0", "--depth", "3"]
    said = refusal([*given, *more, "--out", str(tmp_path / "o")], capsys)
    for part in (
        "--depth: no such option",
        "--value-workers: 0",
        "--beams: 0\n",
        "--beams: 3 0 3: a number twice",
        "--max-steps: 0",
        "--temperature: 0.0, so all continuations of a beam would be the same",
        "its weights hold no value head (score.weight)\n    fix: give RUN/value",
        f"--policy {tmp_path / 'none'}: no such folder",
        "did you mean 'chain'",
    ):
        assert part in said, part
    assert said.startswith("9 problems") and not (tmp_path / "o").exists()


def test_one_of_beams_and_best_of(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = words(models, tmp_path / "o")
    assert "one of the arguments --beams --best-of is required" in refusal(given, capsys)
    assert "not allowed with" in refusal([*given, "--beams", "2", "--best-of", "2"], capsys)
    assert "belongs to --beams" in refusal([*given, "--best-of", "2", "--samples", "3"], capsys)


def test_a_value_network_of_another_tokenizer(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal([*words(models, tmp_path / "o", "other"), "--beams", "2"], capsys)
    assert "its tokenizer is not that of" in said


def test_gpus_for_the_values(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("openrlhf_ext.cluster.visible_gpus", lambda: ("0",))
    given = [*words(models, tmp_path / "o"), "--beams", "2", "--device", "cuda", "--value-device", "cuda"]
    assert "1 value workers, 0 of 1 GPUs left beside the engines" in refusal(given, capsys)


def test_a_request_is_made_ready(models: Path, tmp_path: Path, checked: list[Checked]) -> None:
    given = [*words(models, tmp_path / "o"), "--beams", "1", "3", "--limit", "3"]
    assert main(["search", *given]) == 0
    request = checked[0]
    assert [arm.name for arm in request.arms] == ["greedy", "beams-1", "beams-3"]
    assert [(arm.width, arm.samples) for arm in request.arms[1:]] == [(1, 1), (3, 3)]
    assert request.delimiters == ("\n",) and len(request.prompts) == 3
    assert main(["search", *given, "--samples", "4", "--no-greedy", "--delimiters", r"\n", "; "]) == 0
    assert [(arm.name, arm.samples) for arm in checked[1].arms] == [("beams-1-4-samples", 4), ("beams-3-4-samples", 4)]
    assert checked[1].delimiters == ("\n", "; ") and not (tmp_path / "o").exists()


def test_delimiters_come_from_the_request_the_suite_or_the_task(
    models: Path, tmp_path: Path, checked: list[Checked]
) -> None:
    given = [*words(models, tmp_path / "o"), "--beams", "2"]
    own = tmp_path / "own.yaml"
    own.write_text('delimiters: ["; "]\ntask:\n  name: chain\n')
    given[given.index("--suite") + 1] = str(own)
    assert main(["search", *given]) == 0
    assert main(["search", *given, "--delimiters", "="]) == 0
    own.write_text("task:\n  name: math\nform: prompts\n")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"input": "1+1", "label": {"answer": "2"}}) + "\n")
    given[given.index("--data") + 1] = str(rows)
    assert main(["search", *given]) == 0
    assert [request.delimiters for request in checked] == [("; ",), ("=",), ("\n", ". ", ".$ ")]
    assert checked[0].record["delimiters"] == ["; "]


def test_resume_takes_more_arms_and_refuses_another_search(
    models: Path, tmp_path: Path, checked: list[Checked], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o"
    assert main(["search", *words(models, out), "--beams", "3"]) == 0
    out.mkdir()
    (out / REQUEST).write_text(json.dumps(checked[0].record))
    again = [*words(models, out), "--beams", "3", "5", "--resume"]
    assert main(["search", *again]) == 0
    assert "already holds" in refusal(again[:-1], capsys)
    said = refusal([*again, "--max-steps", "7", "--temperature", "0.5", "--delimiters", "; "], capsys)
    for key in ("max_steps", "search_temperature", "delimiters"):
        assert f"--resume: {key}" in said
    assert "--resume: models" not in said
