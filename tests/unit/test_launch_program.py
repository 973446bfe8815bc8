"""What the driver shows of a program's metrics: each poll once, its steps' time shared out, and a legend before the first."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_ext.launch_program import _follow, legend

POLLS = ([1], [], [2, 3, 4], [5])


class Shown:
    def __init__(self) -> None:
        self.steps: list[tuple[int, dict[str, float]]] = []

    def step(self, step: int, **values: float) -> None:
        self.steps.append((step, values))


def test_steps_of_one_poll_are_shown_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    file, polls = tmp_path / "metrics.jsonl", iter(POLLS)

    def wait(refs: list, timeout: float) -> tuple[list, list]:
        new = next(polls, None)
        if new is None:
            return refs, []
        with file.open("a") as out:
            for step in new:
                row = {"step": step, "train/loss": step / 10} | ({"eval/loss": 0.75} if step == 3 else {})
                out.write(json.dumps(row) + "\n")
        return [], refs

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", lambda done: done)
    shown = Shown()
    _follow([object()], SimpleNamespace(metrics_file=file), shown)
    assert shown.steps == [(1, {"loss": 0.1}), (4, {"loss": 0.4, "eval_loss": 0.75}), (5, {"loss": 0.5})]


def test_the_legend_names_an_accuracy_where_there_is_one() -> None:
    assert legend(False) == "values: loss = the step's mean; eval ... = the same on eval.dataset; s/step = median"
    assert "accuracy = share whose better answer scores higher" in legend(True)
