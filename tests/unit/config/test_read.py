"""YAML files become settings with their lines; the traps of YAML 1.1 are closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from openrlhf_ext.config.problem import ConfigError
from openrlhf_ext.config.read import parse_yaml_value, read_file, read_overrides


def settings(path: Path, text: str) -> dict[str, object]:
    path.write_text(text)
    return {s.key: s.value for s in read_file(str(path))}


def test_sections_and_dotted_keys_mean_the_same(tmp_path):
    nested = settings(tmp_path / "a.yaml", "actor:\n  adam:\n    lr: 1e-6\n")
    dotted = settings(tmp_path / "b.yaml", "actor.adam.lr: 1e-6\n")
    assert nested == dotted == {"actor.adam.lr": 1e-6}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("2E+3", 2000.0),
        (".5", 0.5),
        ("-1", -1),
        ("010", 10),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("12_000", "12_000"),
        ("true", True),
        ("null", None),
        ("[0.55, 3e-1]", [0.55, 0.3]),
        ("{unclosed", "{unclosed"),
        (".inf", float("inf")),
        ("5.", 5.0),
    ],
)
def test_scalars_are_what_a_person_means(text, value):
    parsed = parse_yaml_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_each_setting_knows_its_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("# comment\nrun:\n  seed: 7\nactor.eps_clip: 0.2\n")
    assert [(s.key, s.origin) for s in read_file(str(path))] == [
        ("run.seed", "run.yaml line 3"),
        ("actor.eps_clip", "run.yaml line 4"),
    ]


def test_a_key_given_twice_is_refused_with_both_lines(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("run:\n  seed: 1\nrun.seed: 2\n")
    with pytest.raises(ConfigError) as error:
        read_file(str(path))
    (problem,) = error.value.problems
    assert problem.where == "run.yaml line 3"
    assert "run.yaml line 2" in problem.what


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "just words", "\ta: 1"])
def test_a_file_that_is_no_mapping_is_one_problem(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_file(str(path))
    assert len(error.value.problems) == 1


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError) as error:
        read_file("nowhere/run.yaml")
    assert "nowhere/run.yaml" in error.value.problems[0].what


def test_an_empty_file_sets_nothing(tmp_path):
    assert settings(tmp_path / "empty.yaml", "# nothing\n") == {}


def test_the_last_of_equal_overrides_counts():
    assert [(s.key, s.value) for s in read_overrides([("a.b", "1"), ("c.d", "2"), ("a.b", "3")])] == [
        ("a.b", "3"),
        ("c.d", "2"),
    ]
