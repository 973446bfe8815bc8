"""Suites: found by name or path, every problem of a file at once, data from files or generated."""

import json
from pathlib import Path

import pytest

from openrlhf_ext.config.problem import ConfigError
from openrlhf_ext.evaluate.suite import CHECKOUT, Suite, find_suite, load_suite, override, read_questions, readable


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_every_shipped_suite_loads_and_its_task_passes_its_own_test():
    from openrlhf_ext.tasks import make_task

    names = sorted(path.stem for path in (CHECKOUT / "evaluation" / "suites").glob("*.yaml"))
    assert {"game24", "chain", "gsm8k", "svamp"} <= set(names)
    for name in names:
        suite = load_suite(name)
        assert suite.name == name and readable(suite) is None
        assert make_task(suite.task).self_test() == []


def test_game24_is_the_hundred_held_out_puzzles():
    suite = load_suite("game24")
    assert (suite.task["checker"], suite.samples, suite.sample_rows) == ("strict", 8, 32)
    questions = read_questions(suite)
    train = read_questions(override(suite, split="train"))
    assert (len(questions), len(train)) == (100, 1262)
    numbers = {tuple(sorted(q.label["numbers"])) for q in questions}
    assert len(numbers) == 100
    assert not numbers & {tuple(sorted(q.label["numbers"])) for q in train}
    assert questions[0].question == " ".join(map(str, questions[0].label["numbers"])) + "\n"


def test_unknown_name_gets_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'game24'"):
        find_suite("gam24")
    with pytest.raises(ConfigError, match="no such file"):
        find_suite("somewhere/none.yaml")


def test_a_file_with_several_mistakes_lists_them_all(tmp_path: Path):
    path = write(
        tmp_path / "bad.yaml",
        "tamplate: plain\nmax_new_tokens: many\nsamples: 0\ntop_p: 1.5\nform: rows\ntask:\n  checker: strict\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_suite(path)
    text = str(caught.value)
    assert len(caught.value.problems) == 6
    assert "did you mean 'template'" in text and "bad.yaml line 1" in text
    assert "takes a whole number, got 'many'" in text
    assert "takes 1 or more, got 0" in text
    assert "takes 1 or less, got 1.5" in text
    assert "takes one of task, prompts; got 'rows'" in text
    assert "no task.name" in text


def test_override_replaces_only_what_is_given():
    suite = Suite("x", {"name": "chain"}, samples=4)
    changed = override(suite, samples=None, limit=None, max_new_tokens=7)
    assert (changed.samples, changed.max_new_tokens) == (4, 7)
    with pytest.raises(ValueError, match="--samples: takes 1 or more"):
        override(suite, samples=0)


def test_prepared_prompts_are_taken_as_they_are(tmp_path: Path):
    rows = [{"input": "Q: 1+1?\nA:", "label": json.dumps({"answer": "2"})}, {"input": "Q", "label": {"answer": "3"}}]
    write(tmp_path / "dev.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    suite = Suite("x", {"name": "gsm8k"}, data=str(tmp_path), form="prompts", split="dev")
    assert [(q.question, q.label) for q in read_questions(suite)] == [
        ("Q: 1+1?\nA:", {"answer": "2"}),
        ("Q", {"answer": "3"}),
    ]


def test_bad_rows_are_named_by_file_line_and_field(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    write(
        path,
        '{"input": "a", "label": "{}"}\nnot json\n{"label": "{}"}\n{"input": "b"}\n{"input": "c", "label": "[1]"}\n',
    )
    suite = Suite("x", {"name": "gsm8k"}, data=str(path), form="prompts")
    with pytest.raises(ValueError) as caught:
        read_questions(suite)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{path}:{n}" for n in (2, 3, 4, 5)]
    assert "input: missing" in lines[1] and "label: missing" in lines[2]


def test_unknown_split_and_missing_data():
    with pytest.raises(ValueError, match=r"--split tst: no such split; did you mean 'test'"):
        read_questions(Suite("x", {"name": "game24"}, split="tst"))
    with pytest.raises(ValueError, match="--data is missing"):
        read_questions(Suite("x", {"name": "gsm8k"}))


def test_delimiters_of_a_suite_are_a_list_of_texts(tmp_path: Path):
    good = write(tmp_path / "good.yaml", 'delimiters: ["\\n", "; "]\ntask:\n  name: chain\n')
    assert load_suite(good).delimiters == ("\n", "; ")
    for bad in ("x", '["a", ""]', "[1]"):
        with pytest.raises(ConfigError, match=r"delimiters.*takes a list of texts"):
            load_suite(write(tmp_path / "bad.yaml", f"delimiters: {bad}\ntask:\n  name: chain\n"))
