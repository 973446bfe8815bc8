"""The command line of `evaluate`: every problem of a request at once with exit code 2 and nothing written; a served model end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from openrlhf_ext.cli import main
from openrlhf_ext.prepare.tiny_model import build_tiny_model

if TYPE_CHECKING:
    from conftest import FakeServer, Reply


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny_model(folder, task="chain", layers=1, hidden=64, heads=2, context=64)
    return folder


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["evaluate", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_all_problems_of_a_request_are_listed_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.tex").write_text("x")
    words = ["--model", str(tmp_path / "none"), "--suite", "game24", "--task.cheker", "strict", "--outt", "x"]
    said = refusal([*words, "--limit", "0", "--split", "tset", "--wave", "0", "--out", str(out)], capsys)
    assert said.startswith("7 problems, nothing was started:")
    assert "--outt: no such option\n    fix: did you mean '--out'?" in said
    assert "did you mean 'checker'?" in said and "did you mean 'test'?" in said
    assert "--wave: 0" in said and "--limit: 0" in said
    assert f"--model {tmp_path / 'none'}: no such folder" in said
    assert "holds no evaluation" in said
    assert [path.name for path in out.iterdir()] == ["chapter.tex"]


def test_no_such_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    said = refusal(["--model", str(tmp_path), "--suite", "game42", "--out", str(tmp_path / "o")], capsys)
    assert "no suite 'game42'" in said and "did you mean 'game24'" in said


def test_bad_rows_are_named(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"question": "1+1", "answer": "#### 2"}\n{"question": "1+1"}\n{"question": "1+1", "answer": "two"}\n'
    )
    words = ["--model", str(model), "--suite", "chain", "--data", str(rows), "--out", str(tmp_path / "o")]
    said = refusal(words, capsys)
    assert f"{rows}:2: answer: missing" in said and f"{rows}:3: answer: no result" in said


def test_prompts_must_fit_the_context(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "1+" * 40 + "1", "answer": "#### 41"}) + "\n")
    words = ["--model", str(model), "--suite", "chain", "--data", str(rows), "--out", str(tmp_path / "o")]
    assert "1 of 1 prompts do not fit its 64 positions (longest 82 tokens)" in refusal(words, capsys)
    rows.write_text(json.dumps({"question": "1+1", "answer": "#### 2"}) + "\n")
    said = refusal([*words, "--max-new-tokens", "64"], capsys)
    assert "4 prompt + 64 new tokens do not fit its 64 positions\n    fix: --max-new-tokens 60 or less" in said


def test_a_chat_suite_needs_a_chat_template(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--model", str(model), "--suite", "chain", "--template", "chat", "--out", str(tmp_path / "o")]
    assert "this tokenizer has none" in refusal(words, capsys)


def test_a_tokenizer_that_loses_text_is_noticed(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "1+1 größer", "answer": "#### 2"}) + "\n")
    words = ["--model", str(model), "--suite", "chain", "--data", str(rows), "--out", str(tmp_path / "o")]
    assert "the tokenizer does not know" in refusal(words, capsys)


def test_samples_of_temperature_zero_are_refused(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--model", str(model), "--suite", "chain", "--temperature", "0", "--out", str(tmp_path / "o")]
    assert "would be the same answer" in refusal(words, capsys)


def test_gpus_that_are_not_there(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("openrlhf_ext.cluster.visible_gpus", lambda: ("0",))
    words = ["--model", str(model), "--suite", "chain", "--out", str(tmp_path / "o"), "--device"]
    said = refusal([*words, "cuda", "--engines", "2", "--tensor-parallel-size", "2"], capsys)
    assert "2 engines x 2 GPUs, this machine has 1" in said
    assert "the engines run on the CPU" in refusal([*words, "cpu", "--tensor-parallel-size", "2"], capsys)


def test_a_tokenizer_file_that_is_broken(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]):
    import shutil

    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{")
    said = refusal(["--model", str(broken), "--suite", "chain", "--out", str(tmp_path / "o")], capsys)
    assert f"--model {broken}: cannot be read" in said


def test_a_server_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--endpoint", "http://127.0.0.1:9", "--suite", "chain", "--out", str(tmp_path / "o")]
    assert "cannot be reached" in refusal(words, capsys)
    assert "no URL" in refusal(["--endpoint", "localhost", *words[2:]], capsys)


def test_model_and_endpoint_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    both = ["--model", "m", "--endpoint", "http://h", "--suite", "chain", "--out", str(tmp_path / "o")]
    assert "not allowed with" in refusal(both, capsys)


def adder(server: FakeServer, wrong: int = 0):
    """Solves chains, the first ``wrong`` ones wrongly."""

    def reply(body: dict, number: int) -> Reply:
        terms, modulus = body["prompt"].split(" mod ")
        answer = sum(map(int, terms.split("+"))) % int(modulus)
        return 200, server.completion(f"#### {answer + (number <= wrong)}"), {}

    return reply


def test_a_served_model_end_to_end(tmp_path: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "o"
    server.models = {"data": [{"id": "org/adder"}]}
    server.reply = adder(server, wrong=2)
    words = ["--endpoint", server.url, "--suite", "chain", "--limit", "10", "--sample-rows", "3", "--samples", "2"]
    assert main(["evaluate", *words, "--out", str(out), "--concurrency", "1"]) == 0
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in (out / "org--adder" / "results.jsonl").read_text().splitlines()]
    assert len(rows) == len(server.bodies) == 10 + 3 * 2
    assert [row["correct"] for row in rows[:10]] == [False] * 2 + [True] * 8
    summary = json.loads((out / "org--adder" / "summary.json").read_text())
    assert (summary["accuracy"], summary["incorrect"], summary["pass@2"], summary["length"]) == (0.8, 0.2, 1.0, 7)
    assert "80.0%" in printed.out and printed.out.startswith("chain, test split")
    assert "evaluate chain  step 16/16" in printed.err
    # Again: refused, then resumed without asking anything, then only what a larger limit adds.
    assert main(["evaluate", *words, "--out", str(out)]) == 2
    assert main(["evaluate", *words, "--out", str(out), "--resume"]) == 0
    assert len(server.bodies) == 16
    words[words.index("10")] = "12"
    assert main(["evaluate", *words, "--out", str(out), "--resume"]) == 0
    assert len(server.bodies) == 18


def test_a_server_that_breaks_down_leaves_what_was_graded(
    tmp_path: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "o"
    good = adder(server)
    server.reply = lambda body, number: good(body, number) if number <= 4 else (400, {"error": "gone"}, {})
    words = [
        "evaluate",
        "--endpoint",
        server.url,
        "--suite",
        "chain",
        "--limit",
        "8",
        "--samples",
        "1",
        "--out",
        str(out),
    ]
    assert main([*words, "--wave", "4", "--concurrency", "2"]) == 1
    said = capsys.readouterr().err
    assert "400" in said and "gone" in said and "--resume" in said
    assert len((out / "tiny" / "results.jsonl").read_text().splitlines()) == 4
    server.reply = good
    before = len(server.bodies)
    assert main([*words, "--resume"]) == 0
    assert len(server.bodies) - before == 4


def test_help_and_misspelt_requests_import_nothing_heavy():
    code = (
        "import sys; from openrlhf_ext.cli import main\n"
        "assert main(['evaluate', '--help']) == 0\n"
        "assert main(['merge', '--help']) == 0\n"
        "assert main(['evaluate', '--model', 'none', '--suite', 'gam24', '--out', 'o']) == 2\n"
        "heavy = {'torch', 'ray', 'vllm', 'transformers', 'peft', 'openrlhf', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
