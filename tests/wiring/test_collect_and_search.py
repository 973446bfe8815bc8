"""`collect` and `search` from the command line to their files, over engines and a value network that are played: kill, resume, growth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from openrlhf_ext.cli import main
from openrlhf_ext.data.trajectory import read_trajectories
from openrlhf_ext.evaluate import engine as engine_module
from openrlhf_ext.evaluate.asking import Ask, Prefix
from openrlhf_ext.prepare.tiny_model import build_tiny_model
from openrlhf_ext.search import value as value_module

PROBLEMS = 6


class Killed(RuntimeError):
    """The process died here."""


class PlayedPool:
    """Engines that write `a+b=c`, a line break, `#### c` and the end token; c is right where the seed is even. Dies after ``lives`` waves."""

    lives, waves, starts = 10**6, 0, 0

    def __init__(self, options: object, progress: object) -> None:
        type(self).starts += 1

    def __enter__(self) -> PlayedPool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, model: object, task: object, tokenizer, length: int) -> None:
        self.tokenizer = tokenizer

    def _wave(self) -> None:
        if type(self).waves == self.lives:
            raise Killed
        type(self).waves += 1

    def _line(self, prompt: str, seed: int) -> str:
        a, b = map(int, prompt.split(" ")[0].split("+"))
        return f"{a}+{b}={a + b + seed % 2}\n"

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answers(
        self, max_new_tokens: int, top_p: float, *, top_k: int, stop: Sequence[str], logprobs: bool
    ) -> Callable:
        def answer(asks: Sequence[Ask]) -> list[dict]:
            self._wave()
            return [self._answer(ask) for ask in asks]

        return answer

    def _answer(self, ask: Ask) -> dict:
        line = self._line(ask.prompt.text, ask.seed)
        text = f"{line}#### {line.strip().partition('=')[2]}"
        prompt, tokens = self._ids(ask.prompt.text), [*self._ids(text), self.tokenizer.eos_token_id]
        right = float(ask.seed % 2 == 0)
        return {
            "text": text,
            "observation_tokens": prompt + tokens,
            "action_ranges": [(len(prompt), len(prompt) + len(tokens))],
            "rollout_log_probs": None,
            "reward": right,
            "scores": right,
            "truncated": False,
            "extra_logs": {"correct": right},
        }

    def continuations(self, max_new_tokens: int, *, stop: Sequence[str] = ()) -> Callable:
        def more(prefixes: Sequence[Prefix]) -> list[dict]:
            self._wave()
            return [self._continue(prefix, bool(stop)) for prefix in prefixes]

        return more

    def _continue(self, prefix: Prefix, stops: bool) -> dict:
        text = self.tokenizer.decode(prefix.tokens)
        seed = prefix.seed if prefix.temperature else 1  # greedy is wrong
        if "=" in text:
            last = text.strip().rpartition("=")[2]
            return {"tokens": [*self._ids(f"#### {last}"), self.tokenizer.eos_token_id], "finish": "stop", "stop": None}
        line = self._line(text, seed)
        if stops:
            return {"tokens": self._ids(line), "finish": "stop", "stop": "\n"}
        answer = self._ids(f"{line}#### {line.strip().partition('=')[2]}")
        return {"tokens": [*answer, self.tokenizer.eos_token_id], "finish": "stop", "stop": None}


class PlayedValues:
    """1 where the last number is the right sum, else 0: known from the text alone."""

    tokenizer: object = None

    def __init__(self, folder: Path, **options: object) -> None:
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def __enter__(self) -> PlayedValues:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, prefixes: Sequence[tuple[int, ...]]) -> list[float]:
        return [self._value(self.tokenizer.decode(prefix)) for prefix in prefixes]  # type: ignore[attr-defined]

    @staticmethod
    def _value(text: str) -> float:
        a, b = map(int, text.split(" ")[0].split("+"))
        return float(text.replace("#### ", "=").strip().rpartition("=")[2] == str(a + b))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("models")
    for name in ("policy", "value"):
        build_tiny_model(folder / name, task="chain", layers=1, hidden=64, heads=2, context=64)
    weights = load_file(folder / "value" / "model.safetensors")
    save_file(weights | {"score.weight": torch.zeros(1, 64)}, folder / "value" / "model.safetensors")
    rows = [{"question": f"{i}+2 mod 100", "answer": f"{i}+2={i + 2}\n#### {i + 2}"} for i in range(PROBLEMS)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[PlayedPool]]:
    monkeypatch.setattr(engine_module, "EnginePool", PlayedPool)
    monkeypatch.setattr(value_module, "ValueReaders", PlayedValues)
    monkeypatch.setattr(PlayedPool, "lives", 10**6)
    monkeypatch.setattr(PlayedPool, "waves", 0)
    monkeypatch.setattr(PlayedPool, "starts", 0)
    yield PlayedPool


def collect(models: Path, out: Path, *more: str) -> int:
    request = ["--task", "chain", "--prompts", str(models / "test.jsonl"), "--n", "3", "--wave", "4"]
    return main(["collect", "--model", str(models / "policy"), *request, "--out", str(out), *more])


def search(models: Path, out: Path, *more: str) -> int:
    who = ["--policy", str(models / "policy"), "--value", str(models / "value"), "--suite", "chain", "--wave", "8"]
    return main(["search", *who, "--data", str(models / "test.jsonl"), "--out", str(out), *more])


def test_collect_writes_trajectories_and_says_what_they_are(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert collect(models, tmp_path / "rows.jsonl") == 0
    said = capsys.readouterr().out
    rows = read_trajectories(tmp_path / "rows.jsonl")
    assert len(rows) == 3 * PROBLEMS and f"{len(rows)} trajectories of {PROBLEMS} problems" in said
    assert f"{100 * sum(row['scores'] for row in rows) / len(rows):.1f}% correct" in said and "per second" in said
    assert all(len(row["step_starts"]) == 2 for row in rows), "a line and the answer"


def test_a_collection_killed_in_its_third_wave_goes_on(
    models: Path, tmp_path: Path, played: type[PlayedPool], capsys: pytest.CaptureFixture[str]
) -> None:
    assert collect(models, tmp_path / "whole.jsonl") == 0
    played.waves, played.lives = 0, 2
    out = tmp_path / "rows.jsonl"
    assert collect(models, out, "--limit", "5") == 1
    assert out.read_bytes().count(b"\n") == 8 and "go on: the same command with --resume" in capsys.readouterr().err
    played.waves, played.lives = 0, 10**6
    assert collect(models, out) == 2 and "already holds rows" in capsys.readouterr().err
    assert collect(models, out, "--resume", "--temperature", "0.5") == 2
    assert "--resume: temperature" in capsys.readouterr().err
    assert collect(models, out, "--resume") == 0  # one problem more than before the kill
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    starts = played.starts
    assert collect(models, out, "--resume") == 0 and played.starts == starts, "nothing is missing: no engine starts"
    assert collect(models, out, "--resume", "--limit", "2") == 1
    assert "holds 18 rows, asked are 6" in capsys.readouterr().err


def rows_of(out: Path, arm: str) -> list[dict]:
    rows = [json.loads(line) for line in (out / arm / "results.jsonl").read_text().splitlines()]
    for row in rows:
        del row["search"]["seconds"]
    return rows


def test_search_finds_what_greedy_misses(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(models, tmp_path / "out", "--beams", "4") == 0
    said = capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert figures["arms"]["greedy"]["accuracy"] == 0.0
    # Four lines each with an even chance: all wrong once in 16.
    assert figures["arms"]["beams-4"]["accuracy"] > 0.6
    assert figures["against_first"]["beams-4"]["only_second"] >= 4
    assert "against greedy" in said and (tmp_path / "out" / "summary.md").read_text() in said
    for row in rows_of(tmp_path / "out", "beams-4"):
        assert row["correct"] == (row["search"]["value"] == 1.0) and row["search"]["steps"] == 2
        assert row["text"].count("\n") == 1 and not row["truncated"]


def test_a_killed_search_goes_on_and_takes_more_arms(
    models: Path, tmp_path: Path, played: type[PlayedPool], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert search(models, whole, "--beams", "2", "3") == 0
    played.waves, played.lives = 0, 4
    assert (
        search(models, out, "--beams", "2") == 1
    )  # 1 wave of greedy answers, 2 of the first beams, 1 of the next ones
    assert len(rows_of(out, "greedy")) == PROBLEMS and 0 < len(rows_of(out, "beams-2")) < PROBLEMS
    played.waves, played.lives = 0, 10**6
    capsys.readouterr()
    assert search(models, out, "--beams", "2", "3", "--resume") == 0
    assert "resumed: " in capsys.readouterr().err
    for arm in ("greedy", "beams-2", "beams-3"):
        assert rows_of(out, arm) == rows_of(whole, arm)
    assert search(models, out, "--beams", "2", "--resume", "--max-steps", "3") == 2
    assert "--resume: max_steps" in capsys.readouterr().err


def test_best_of_takes_whole_answers(models: Path, tmp_path: Path) -> None:
    assert search(models, tmp_path / "out", "--best-of", "1", "4", "--no-greedy") == 0
    one, four = (rows_of(tmp_path / "out", f"best-of-{k}") for k in (1, 4))
    assert [row["problem_id"] for row in four] == list(range(PROBLEMS))
    assert sum(row["correct"] for row in four) > sum(row["correct"] for row in one)
    for small, large in zip(one, four, strict=True):
        # The first of four samples is the one sample: equal seeds.
        assert small["text"] in [candidate["text"] for candidate in large["search"]["candidates"]]
        assert large["search"]["proposed"] == 4 and large["search"]["duplicates"] >= 2
