"""Exploring into a file: the same bytes after a kill anywhere, strangers refused, figures with their cost; and what a request is checked for."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from openrlhf_ext.cli import main
from openrlhf_ext.collect.growing import request_file
from openrlhf_ext.data.explore import Budget, Exploration, WrongSolution
from openrlhf_ext.data.explore_file import read_explored
from openrlhf_ext.evaluate.asking import Prefix
from openrlhf_ext.explore.request import LEAST_NEW_TOKENS, ExploreRequest, _task, check_request
from openrlhf_ext.explore.run import Diary, engine_sampler, finish, open_file
from openrlhf_ext.prepare.tiny_model import build_tiny_model
from openrlhf_ext.rollout.explore import PrefixRequest, Sampled, explore
from openrlhf_ext.tasks import make_task

TASK = make_task({"name": "chain"})
RECORD = {"model": "m@1", "task": {"name": "chain"}, "temperature": 0.7, "top_p": 1.0, "max_new_tokens": 9, "seed": 42}


class Killed(RuntimeError):
    """The process died here."""


def solutions(count: int = 9) -> tuple[WrongSolution, ...]:
    return tuple(
        WrongSolution(
            str(i), i, f"q{i}\n", '{"answer": "5"}', "chain", tuple(f"s{j}\n" for j in range(4)), False, "#### 5"
        )
        for i in range(count)
    )


class Request:
    """As much of a checked request as the file needs."""

    def __init__(self, out: Path, count: int = 9) -> None:
        self.solutions, self.budget, self.record = solutions(count), Budget(k=2, confirm=1), RECORD
        self.request = type("R", (), {"out": out})


class FakeModel:
    """Right with a chance of one half, by the seed; dies at the wave after ``lives``."""

    def __init__(self, lives: int = 10**6) -> None:
        self.lives = lives

    def __call__(self, requests):
        if not self.lives:
            raise Killed
        self.lives -= 1
        return [Sampled(f"#### {5 if random.Random(r.seed).random() < 0.5 else 6}", 3) for r in requests]


def run(out: Path, model: FakeModel, wave: int = 8) -> Exploration:
    checked = Request(out)
    exploration = Exploration(checked.solutions, checked.budget)
    with open_file(checked, exploration) as file:
        explore(exploration, model, TASK, file.append, wave=wave)
    return exploration


def test_a_killed_exploration_ends_in_the_same_bytes(tmp_path):
    whole = tmp_path / "whole.jsonl"
    run(whole, FakeModel())
    for lives in range(8):
        path = tmp_path / f"{lives}.jsonl"
        with pytest.raises(Killed):
            run(path, FakeModel(lives))
        with path.open("ab") as file:
            file.write(b'{"kind": "st')
        run(path, FakeModel(), wave=[3, 8, 500][lives % 3])
        assert path.read_bytes() == whole.read_bytes()
    assert whole.read_bytes() == (run(whole, FakeModel(0)), whole.read_bytes())[1]  # nothing is left to ask


def test_cut_at_any_byte(tmp_path):
    whole = tmp_path / "whole.jsonl"
    run(whole, FakeModel())
    data = whole.read_bytes()
    for at in range(0, len(data), 97):
        path = tmp_path / f"cut{at}.jsonl"
        path.write_bytes(data[:at])
        run(path, FakeModel())
        assert path.read_bytes() == data


def test_rows_of_another_exploration_are_refused(tmp_path):
    out = tmp_path / "e.jsonl"
    run(out, FakeModel())
    other = Request(out, count=8)
    with pytest.raises(ValueError, match="another exploration's row"):
        open_file(other, Exploration(other.solutions, other.budget))


def test_the_file_is_what_pairs_are_made_of(tmp_path):
    out = tmp_path / "e.jsonl"
    exploration = run(out, FakeModel())
    assert read_explored(out).walks == exploration.walks
    assert main(["prepare", "pairs", "--kind", "step", "--in", str(out), "--out", str(tmp_path / "p.jsonl")]) == 0
    pairs = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert pairs and all(TASK.verify(pair["chosen"], pair["meta"]["label"]).correct for pair in pairs)
    trl = tmp_path / "p.parquet"
    assert main(["prepare", "pairs", "--kind", "step", "--in", str(out), "--format", "trl", "--out", str(trl)]) == 0
    parquet = pytest.importorskip("pyarrow.parquet")
    assert parquet.read_table(trl).to_pylist() == [
        {key: pair[key] for key in ("prompt", "chosen", "rejected")} for pair in pairs
    ]
    assert main(["prepare", "pairs", "--kind", "step", "--in", str(out), "--out", str(trl)]) == 2


def test_the_summary_adds_up_all_waves(tmp_path):
    out = tmp_path / "e.jsonl"
    exploration = run(out, FakeModel())
    counts = iter(range(0, 1000, 10))
    diary = Diary(
        tmp_path / "e.jsonl.waves.jsonl", lambda: dict.fromkeys(("prompt_tokens", "cached_tokens"), next(counts))
    )
    diary.wave(18)
    diary.wave(4)
    text = finish(out, exploration)
    summary = json.loads((tmp_path / "e.jsonl.summary.json").read_text())
    assert (summary["waves"], summary["prompt_tokens"], summary["cache_hit_rate"]) == (2, 20, 1.0)
    assert sum(summary["pit_histogram"].values()) == summary["pits"] and summary["solutions"] == 9
    assert f"{summary['pits']} with a pit" in text and "100% of the prompt tokens" in text


def pairs_file(tmp_path: Path, task: str | None = "chain") -> Path:
    meta = {"label": '{"answer": "15"}', "problem_id": 0} | ({"task": task} if task else {})
    row = {"prompt": "8+7 mod 100\n", "chosen": "8+7=15\n#### 15", "rejected": "8+7=16\n#### 16", "meta": meta}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return path


def test_the_task_is_the_rows_own_unless_it_is_given(tmp_path):
    def named(task, **given):
        found: list = []
        request = ExploreRequest("m", pairs_file(tmp_path, task), None, tmp_path / "o.jsonl", 4, task=given)
        return _task(request, found)[0].get("name"), [problem.where for problem in found]

    assert named("chain") == ("chain", [])
    assert named("chain", name="gsm8k") == ("gsm8k", [])
    assert named(None) == (None, ["--task"])


def test_one_long_solution_shortens_no_others_completions(tmp_path):
    model = tmp_path / "model"
    build_tiny_model(model, task="chain", layers=1, hidden=64, heads=2, context=128)
    pairs = pairs_file(tmp_path)
    (row,) = [json.loads(line) for line in pairs.read_text().splitlines()]
    long, longer = ({**row, "rejected": "8+7=16\n" * lines} for lines in (11, 16))
    pairs.write_text("".join(json.dumps(r) + "\n" for r in (row, long, longer)))
    checked, found = check_request(ExploreRequest(str(model), pairs, None, tmp_path / "o.jsonl", 4), "cpu")
    assert checked is not None and [s.id for s in checked.solutions] == ["1", "2"]
    assert [p.what for p in found if "left out" in p.what], "the third leaves no room for a completion"
    assert checked.length == 128
    asked: list[Prefix] = []

    def continued(prefixes):
        asked.extend(prefixes)
        return [{"tokens": []} for _ in prefixes]

    requests = [PrefixRequest(s.prefix(len(s.steps)), 0, 0) for s in checked.solutions]
    engine_sampler(continued, checked, 0.7)(requests)
    short, tight = asked
    assert short.room == 128 - len(short.tokens) > 90 and LEAST_NEW_TOKENS <= tight.room < 64


def test_wrong_requests_exit_2_and_start_nothing(tmp_path, capsys):
    pairs, out = pairs_file(tmp_path), tmp_path / "e.jsonl"
    model = tmp_path / "model"
    build_tiny_model(model, task="chain", layers=1, hidden=64, heads=2, context=64)
    base = ["explore", "--model", str(model), "--device", "cpu", "--out", str(out)]

    def refused(*words: str) -> str:
        assert main([*base, *words]) == 2
        return capsys.readouterr().err

    assert "--k" in refused("--pairs", str(pairs), "--k", "0")
    assert "completions of a prefix would be the same" in refused(
        "--pairs", str(pairs), "--k", "4", "--temperature", "0"
    )
    assert "no such file" in refused("--pairs", str(tmp_path / "none.jsonl"), "--k", "4")
    assert "did you mean '--steps-cap'" in refused("--pairs", str(pairs), "--k", "4", "--step-cap", "3")
    assert "pairs are explored as they are" in refused("--pairs", str(pairs), "--k", "4", "--per-problem", "3")
    assert "leave it out" in refused("--pairs", str(pairs), "--k", "4", "--per-problem", "3")
    many = refused("--pairs", str(pairs), "--k", "-1", "--confirm", "-2", "--limit", "0", "--model", "nowhere")
    assert all(word in many for word in ("--k", "--confirm", "--limit", "nowhere"))
    # 20 prefix tokens and 60 new ones do not fit 64 positions: nothing would be left.
    assert "left out" in refused("--pairs", str(pairs), "--k", "4", "--max-new-tokens", "60")
    right = tmp_path / "right.jsonl"
    right.write_text(
        json.dumps({"prompt": "q\n", "text": "#### 5", "label": '{"answer": "5"}', "correct": True}) + "\n"
    )
    assert "no wrong solution" in refused("--trajectories", str(right), "--k", "4", "--task", "chain")
    assert not out.exists() and not request_file(out).exists()
