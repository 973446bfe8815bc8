"""Settings are told apart from a command's own options, whatever their order."""

from __future__ import annotations

import pytest

from openrlhf_ext.settings import split_settings

OWN = {"--config", "--dry-run", "--out"}


@pytest.mark.parametrize(
    ("line", "rest", "settings"),
    [
        ("grpo --config a.yaml", ["grpo", "--config", "a.yaml"], []),
        ("grpo --run.seed 3 --config a.yaml", ["grpo", "--config", "a.yaml"], [("run.seed", "3")]),
        ("--run.overwrite --dry-run", ["--dry-run"], [("run.overwrite", "true")]),
        ("--run.overwrite", [], [("run.overwrite", "true")]),
        ("--eval.steps -1", [], [("eval.steps", "-1")]),
        ("--actor.adam.betas 0.9 0.95 --x.y 1", [], [("actor.adam.betas", "0.9,0.95"), ("x.y", "1")]),
        ("--run.dir=a=b", [], [("run.dir", "a=b")]),
        ("--task game24", [], [("task.name", "game24")]),
        ("--task.name game24", [], [("task.name", "game24")]),
        ("--config=a.yaml --lr 1", ["--config=a.yaml"], [("lr", "1")]),
        ("-h", ["-h"], []),
        ("--data.input_template=", [], [("data.input_template", "")]),
    ],
)
def test_words_are_told_apart(line, rest, settings):
    assert split_settings(line.split(" "), OWN) == (rest, settings)


def test_a_value_with_blanks_is_one_word():
    assert split_settings(["--data.input_template", "Q: {} A:"], OWN) == ([], [("data.input_template", "Q: {} A:")])
