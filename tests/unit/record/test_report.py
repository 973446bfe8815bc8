"""The report: everything a reader needs in one file, nothing a model wrote can break out of it, and no run is too broken for it."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from openrlhf_ext.record.report import add_parser, run, write_report
from openrlhf_ext.record.run_dir import RunDir
from openrlhf_ext.record.samples import BYTES_READ, read_file, sample_of

MakeRun = Callable[..., Path]
VOID = {"meta", "link", "br", "img", "input", "hr", "col"}


class Outline(HTMLParser):
    """Checks that tags are balanced and collects what the tests ask about."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.titles: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        if tag == "script":
            self.scripts.append(values)
        self.links += [str(values[name]) for name in ("src", "href", "action", "srcset", "data") if values.get(name)]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h3":
            self.titles.append(data)


def page(paths: list[Path], out: Path) -> str:
    return write_report(paths, out).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, make_runs: MakeRun) -> tuple[Path, str]:
    path = make_runs(tmp_path_factory.mktemp("runs") / "grpo-one", seed=1)
    return path, page([path], path / "report.html")


def test_the_page_is_well_formed_and_needs_nothing_from_outside(finished: tuple[Path, str]) -> None:
    html = finished[1]
    outline = Outline(html)
    assert outline.open == []
    assert all(link.startswith("#") or link == "data:," for link in outline.links), outline.links
    assert not re.findall(r"https?://(?!www\.w3\.org)", html) and "@import" not in html and "url(http" not in html
    assert all(script.get("src") is None for script in outline.scripts)


def test_the_page_shows_what_a_reader_needs(finished: tuple[Path, str]) -> None:
    html = finished[1]
    titles = set(Outline(html).titles)
    expected = {"Held-out accuracy", "Reward", "Reward parts", "Response length", "KL to the reference", "Entropy"}
    expected |= {"Rollout and training log-probs", "Gradient norm", "Learning rate", "Time per step", "Memory"}
    assert expected <= titles
    assert {"Changed: solved only after training", "Best", "Typical", "Worst"} <= titles
    for text in ("GRPO · game24", "finished", "examples/models/game24-sft", "Greedy accuracy on 100 held-out problems"):
        assert text in html
    for text in ("Problem by problem", "paired 95 % interval", "pass@8 (32 problems)", "5,760 responses", "27 tensors"):
        assert text in html
    assert "✗" in html and 'class="line wrong"' in html and "step_60" in html and "init_coef" in html


def test_unfinished_and_cut_off_are_told_apart_where_both_stand(finished: tuple[Path, str]) -> None:
    html = finished[1]
    assert (
        html.count("unfinished: the answer reached no final line, stopped or not; cut off: the token limit stopped it.")
        == 1
    )
    assert "mean reward of samples" in html


def test_every_curve_carries_its_numbers(finished: tuple[Path, str]) -> None:
    path, html = finished
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', html)
    charts = [json.loads(block) for block in blocks]
    assert len(charts) == html.count("<figure") == html.count("<svg viewBox") >= 15
    rewards = [
        json.loads(line).get("rollout/reward_mean") for line in (path / "metrics.jsonl").read_text().splitlines()
    ]
    series = next(s for chart in charts for s in chart["s"] if s["n"] == "reward mean")
    assert series["y"] == [float(f"{value:.5g}") for value in rewards if value is not None]
    assert series["x"] == list(range(1, 61)) and len(series["m"]) == 60


def test_secrets_of_the_configuration_are_not_shown(finished: tuple[Path, str]) -> None:
    path, html = finished
    assert "hunter2" in (path / "config.yaml").read_text() and "hunter2" not in html


def test_what_a_model_wrote_cannot_break_out(tmp_path: Path) -> None:
    attack = "</script></code><script>alert(1)</script><img src=x onerror=alert(2)>&amp; {{ 7 * 7 }} {% raw %}"
    run_dir = RunDir.create(tmp_path / "run", f"task:\n  name: {json.dumps(attack)}\n", {"groups": [{attack: attack}]})
    run_dir.metrics(1, {f"rollout/{attack}": 1.0, "rollout/reward_mean": 0.5})
    run_dir.metrics(2, {f"rollout/{attack}": 2.0, "rollout/reward_mean": 0.6})
    row = {
        "prompt": attack,
        "label": attack,
        "text": attack,
        "reward": 1.0,
        "problem_id": attack,
        "extra_logs": {attack: 0.5},
    }
    run_dir.write_rollouts("step_000001", [row | {"step": 1}])
    run_dir.event("warning", message=attack)
    run_dir.close("failure", error=attack, message=attack)
    html = page([run_dir.path], tmp_path / "one.html")
    assert "<script>alert" not in html and "<img" not in html and "49" not in re.findall(r"amp;amp; (.*?) \{%", html)
    assert Outline(html).open == [] and html.count("&lt;script&gt;alert(1)") >= 5
    assert Outline(page([run_dir.path, run_dir.path], tmp_path / "two.html")).open == []


@pytest.mark.parametrize("ending", ["failure", "interrupted"])
def test_an_unhappy_ending_is_told(tmp_path: Path, make_runs: MakeRun, ending: str) -> None:
    html = page([make_runs(tmp_path / "run", steps=6, per_step=8, ending=ending)], tmp_path / "out.html")
    assert f'class="status {"failed" if ending == "failure" else ending}"' in html
    assert ("OutOfMemoryError: 23.1 of 24.0 GiB used" in html) == (ending == "failure")


def test_a_run_in_this_process_is_running_and_a_killed_one_stopped(tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path, "", {})
    run_dir.metrics(1, {"train/loss": 1.0})
    assert 'class="status running"' in page([tmp_path], tmp_path / "a.html")
    (tmp_path / ".lock").write_text("process 1 on elsewhere")
    run_dir.__dict__["_lock"] = None
    html = page([tmp_path], tmp_path / "a.html")
    assert 'class="status stopped"' in html and "--resume" in html


def test_broken_and_missing_pieces_are_told_not_fatal(tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path, "a: [1\n", {})
    run_dir.metrics(0, {"train/loss": math.nan})
    for step in range(1, 40):
        run_dir.metrics(
            step,
            {
                "train/loss": math.nan if step % 7 == 0 else 1.0 / step,
                "train/flat": 0.0,
                "train/spike": 1e9 if step == 9 else step,
            },
        )
    with run_dir.metrics_file.open("a") as file:
        file.write('not json\n{"step": 40, "train/loss": 0.5}\n{"step": 41, "tra')
    run_dir.write_rollouts(
        "step_000001",
        [{}, {"text": 5, "reward": None, "extra_logs": []}, {"reward": 1.0, "text": "", "action_ranges": []}],
    )
    with (tmp_path / "rollouts" / "step_000001.jsonl").open("a") as file:
        file.write('{"text": "torn')
    (tmp_path / "plan.json").write_text("{")
    (tmp_path / "events.jsonl").write_text('{"kind": "start"}\n{"time": "yesterday", "kind": "odd", "x": {"y": [1]}}\n')
    html = page([tmp_path], tmp_path / "out.html")
    assert Outline(html).open == []
    for text in (
        "1 unreadable lines were left out (line 41)",
        "the last line is unfinished",
        "plan.json could not be read",
        "config.yaml could not be read",
    ):
        assert text in html, text
    assert "6 values were not finite: train/loss (first at step 0)" in html
    assert "1 of 39 values lie outside the axis" in html, "one spike must not flatten the curve"
    assert "train/flat = 0" in html


@pytest.mark.parametrize("files", [("config.yaml",), ("metrics.jsonl",), ("events.jsonl",)])
def test_an_almost_empty_run_still_has_a_page(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        (tmp_path / name).write_text("")
    assert Outline(page([tmp_path], tmp_path / "out.html")).open == []


def test_several_seeds_are_summarised(tmp_path: Path, make_runs: MakeRun) -> None:
    runs = [make_runs(tmp_path / f"seed{seed}", seed=seed, steps=12, per_step=8) for seed in (1, 2, 3)]
    html = page(runs, tmp_path / "out.html")
    assert Outline(html).open == []
    assert (
        "grpo game24 (3 seeds)" in html
        and "mean ± sd" in html
        and "Only the seed: all other settings are equal" in html
    )
    accuracies = [
        json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])["eval/game24/accuracy"] for path in runs
    ]
    mean = sum(accuracies) / 3
    deviation = (sum((value - mean) ** 2 for value in accuracies) / 2) ** 0.5
    assert f"{100 * mean:.1f} ± {100 * deviation:.1f} %" in html
    charts = [json.loads(block) for block in re.findall(r'<script type="application/json">(.*?)</script>', html)]
    assert [s["n"] for s in charts[0]["s"]] == [
        "grpo game24 (3 seeds) mean",
        *[f"grpo game24 (3 seeds) seed {i}" for i in (1, 2, 3)],
    ]


def test_different_settings_are_told_apart(tmp_path: Path, make_runs: MakeRun) -> None:
    runs = [
        make_runs(tmp_path / f"run{lr}-{seed}", seed=seed, lr=lr, steps=6, per_step=8)
        for lr in (1e-5, 3e-5)
        for seed in (1, 2)
    ]
    html = page(runs, tmp_path / "out.html")
    assert "lr 1e-05 (2 seeds)" in html and "lr 3e-05 (2 seeds)" in html and "<code>actor.adam.lr</code>" in html
    assert "<code>run.dir</code>" not in html and "<code>run.seed</code>" not in html


def test_runs_with_nothing_in_common_can_be_compared(tmp_path: Path, make_runs: MakeRun) -> None:
    sft = RunDir.create(tmp_path / "sft", "model: {model_name_or_path: m}\n", {}, info={"method": "sft"})
    sft.metrics(1, {"train/loss": 2.0, "eval/loss": 2.1})
    sft.close()
    html = page([make_runs(tmp_path / "grpo", steps=6, per_step=8), sft.path], tmp_path / "out.html")
    assert Outline(html).open == [] and "Held-out accuracy" in html and "Loss" in html


@pytest.mark.parametrize("x", ["step", "tokens", "time"])
def test_the_horizontal_axis_can_be_cost(tmp_path: Path, make_runs: MakeRun, x: str) -> None:
    path = make_runs(tmp_path / "run", steps=6, per_step=8)
    label = {"step": "step", "tokens": "generated tokens", "time": "minutes"}[x]
    assert f'"label": "{label}"' in write_report([path], tmp_path / "out.html", x).read_text()


def test_a_large_run_is_reported_in_little_time(tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path / "run", "", {})
    keys = [f"train/metric_{i}" for i in range(20)] + [
        "rollout/reward_mean",
        "rollout/reward_std",
        "time/generate",
        "time/train",
    ]
    line = json.dumps(
        {
            "prompt": "1 2 3 4",
            "text": "a line of text\n" * 6,
            "reward": 0.5,
            "problem_id": 1,
            "extra_logs": {"outcome": 1.0},
            "observation_tokens": list(range(30)),
        }
    )
    rows = tmp_path / "rows.jsonl"
    rows.write_text((line + "\n") * 100)
    with run_dir.metrics_file.open("w") as file:
        for step in range(1000):
            file.write(json.dumps({"step": step} | {key: math.sin(step / 50 + i) for i, key in enumerate(keys)}) + "\n")
            os.link(rows, run_dir.rollouts / f"step_{step:06d}.jsonl")
    start = time.process_time()
    path = write_report([run_dir.path], tmp_path / "out.html")
    assert time.process_time() - start < 2.0, "seconds of processor time"
    assert path.stat().st_size < 4_000_000 and "Chosen from 16 of 1000 kept steps" in path.read_text()


def test_one_huge_rollouts_file_is_sampled_in_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    with path.open("w") as file:
        for number in range(8000):
            file.write(json.dumps({"step": number, "text": "x" * 400, "reward": 1.0}) + "\n")
    assert path.stat().st_size > 2 * BYTES_READ
    samples = read_file(path, BYTES_READ)
    steps = [sample.step for sample in samples]
    assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] == 7999 and 2000 < len(steps) < 4500


def test_a_sample_takes_whatever_the_row_holds() -> None:
    assert sample_of({}, 7).step == 7 and sample_of({}, 7).correct is None and sample_of({}, 7).text is None
    training = {
        "scores": 1.0,
        "extra_logs": {"outcome": 1.0, "correct": 0.0, "verify_seconds": 0.1},
        "action_ranges": [[5, 9], [12, 14]],
    }
    sample = sample_of(training, 0)
    assert (sample.correct, sample.tokens, dict(sample.parts)) == (False, 6, {"outcome": 1.0})
    evaluated = sample_of({"correct": True, "metrics": {"process": 0.5}, "tokens": 12, "wrong_lines": [0, 2]}, 3)
    assert (evaluated.correct, evaluated.tokens, dict(evaluated.parts), evaluated.wrong_lines) == (
        True,
        12,
        {"process": 0.5},
        frozenset({0, 2}),
    )


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(["report", *argv])


def test_the_command(tmp_path: Path, make_runs: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_runs(tmp_path / "run", steps=6, per_step=8)
    assert run(parse([str(path)])) == 0 and (path / "report.html").exists()
    assert capsys.readouterr().out.strip() == str(path / "report.html")
    assert run(parse([str(tmp_path / "nothing")])) == 2 and "no such directory" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(parse([str(tmp_path / "empty")])) == 2 and "no run directory" in capsys.readouterr().err
    assert (
        run(parse([str(path), "--out", str(tmp_path / "no" / "x.html")])) == 2
        and "does not exist" in capsys.readouterr().err
    )
