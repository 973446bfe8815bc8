import pickle

import pytest

from openrlhf_ext.tasks import TASKS, LabelError, make_task


@pytest.mark.parametrize("name", TASKS)
def test_every_task_passes_its_own_test(name):
    assert make_task({"name": name}).self_test() == []


def test_compatible_checker_passes_the_self_test_too():
    assert make_task({"name": "game24", "checker": "compatible"}).self_test() == []


@pytest.mark.parametrize("name", TASKS)
def test_tasks_travel_between_processes(name):
    task = make_task({"name": name})
    copy = pickle.loads(pickle.dumps(task))
    assert (copy.name, copy.metric_keys) == (task.name, task.metric_keys)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("text", ["", "one\n", "one\ntwo", "\n\n", "a\r\nb\u2028c\n"])
def test_steps_join_back(name, text):
    steps = make_task({"name": name}).split(text)
    assert "".join(steps) == text
    assert all(steps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "task.name=None"),
        ({"name": "gmae24"}, "did you mean 'game24'"),
        ({"name": "game24", "cheker": "strict"}, "did you mean 'checker'"),
        ({"name": "game24", "checker": "strct"}, "did you mean 'strict'"),
        ({"name": "game24", "weights": [1, 2]}, "give 3 numbers"),
        ({"name": "game24", "weights": "a,b,c"}, "give 3 numbers"),
        ({"name": "game24", "length": {"q": 1}}, "task.length.q"),
        ({"name": "game24", "clamp": "maybe"}, "true or false"),
        ({"name": "game24", "length.k": "nan"}, "task.length.k"),
        ({"name": "game24", "max_response_chars": 0.5}, "max_response_chars"),
        ({"name": "gsm8k", "tolerance": -1}, "task.tolerance"),
        ({"name": "gsm8k", "checker": "strict"}, "no such option"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        make_task(options)


def test_all_bad_options_are_named_at_once():
    with pytest.raises(ValueError) as caught:
        make_task({"name": "game24", "cheker": 1, "clamp": "maybe", "weights": "1"})
    assert len(str(caught.value).split("\n")) == 3


def test_nested_and_dotted_keys_mean_the_same():
    dotted = make_task({"name": "game24", "length.t": 8, "on_error": "fail"})
    nested = make_task({"name": "game24", "length": {"t": "8"}})
    assert dotted.rule == nested.rule
    assert dotted.rule.length.t == 8


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("game24", "{"),
        ("game24", "[1, 2]"),
        ("game24", {"numbers": [1]}),
        ("game24", {"numbers": [1, 2.5, 3, 4]}),
        ("game24", {"numbers": [1, True, 3, 4]}),
        ("game24", {"numbers": [1, -2, 3, 4]}),
        ("game24", {"numbers": [1, 2, 3, 4], "target": "24"}),
        ("game24", {"numbers": [1, 2, 3, 10**9]}),
        ("gsm8k", {}),
        ("gsm8k", {"answer": ""}),
        ("gsm8k", {"answer": True}),
        ("gsm8k", {"answer": float("nan")}),
        ("gsm8k", "18"),
    ],
)
def test_bad_labels_raise(name, label):
    with pytest.raises(LabelError):
        make_task({"name": name}).verify("#### 18", label)


def test_labels_come_as_text_or_object():
    task = make_task({"name": "gsm8k"})
    assert task.verify("#### 18", '{"answer": "18"}').correct
    assert task.verify("#### 18", {"answer": 18}).correct
