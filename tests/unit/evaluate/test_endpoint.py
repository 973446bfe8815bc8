"""The HTTP client against a real server on this machine: order, retries, time limits, and errors that say what to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from openrlhf_ext.config.problem import Problem
from openrlhf_ext.evaluate.asking import Ask
from openrlhf_ext.evaluate.endpoint import Endpoint, EndpointError, base_url, served_model
from openrlhf_ext.rollout.prompts import Prompt

if TYPE_CHECKING:
    from conftest import FakeServer, Reply


def ask(text: str, sample: int = 0, temperature: float = 0.0) -> Ask:
    return Ask(Prompt(0, text, "{}", "x"), sample, temperature, seed=100 + sample)


def endpoint(server: FakeServer, **options: object) -> Endpoint:
    settings: dict = {"first_pause": 0.01, "timeout": 10.0, "retries": 3} | options
    return Endpoint(url=server.url, model="tiny", max_new_tokens=9, **settings)


def test_answers_come_in_the_order_of_the_asks(server: FakeServer):
    def slow_first(body: dict, number: int) -> Reply:
        time.sleep(0.2 if body["prompt"] == "p0" else 0.0)
        return 200, server.completion(f"echo {body['prompt']}", "length" if body["prompt"] == "p3" else "stop"), {}

    server.reply = slow_first
    answers = endpoint(server, concurrency=4)([ask(f"p{i}") for i in range(12)])
    assert [a["text"] for a in answers] == [f"echo p{i}" for i in range(12)]
    assert [a["truncated"] for a in answers] == [i == 3 for i in range(12)]
    assert answers[0]["action_ranges"] == [(0, 7)]
    assert 1 < server.busiest <= 4
    assert set(server.paths) == {"/v1/completions"}


def test_what_is_sent(server: FakeServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    endpoint(server, top_p=0.9)([ask("greedy"), ask("sampled", sample=2, temperature=0.7)])
    greedy, sampled = sorted(server.bodies, key=lambda body: body["prompt"])
    assert greedy == {
        "model": "tiny",
        "prompt": "greedy",
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 100,
    }
    assert (sampled["temperature"], sampled["top_p"], sampled["seed"]) == (0.7, 0.9, 102)
    assert server.headers[0]["Authorization"] == "Bearer k"


def test_chat_suites_use_chat_completions(server: FakeServer):
    choice = {"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
    server.reply = lambda body, number: (200, {"choices": [choice]}, {})
    assert endpoint(server, system="be brief")([ask("question")])[0]["text"] == "hello"
    assert server.paths == ["/v1/chat/completions"]
    assert server.bodies[0]["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "question"},
    ]
    endpoint(server, system="")([ask("question")])
    assert [message["role"] for message in server.bodies[1]["messages"]] == ["user"]


def test_passing_failures_are_asked_again(server: FakeServer):
    def third_time_lucky(body: dict, number: int) -> Reply:
        statuses = {1: 503, 2: 429}
        return (statuses[number], {"error": "busy"}, {}) if number in statuses else (200, server.completion("fine"), {})

    server.reply = third_time_lucky
    assert endpoint(server)([ask("p")])[0]["text"] == "fine"
    assert len(server.bodies) == 3 and server.bodies[0] == server.bodies[2]


def test_a_lasting_failure_ends_with_the_servers_words_and_the_attempts(server: FakeServer):
    server.reply = lambda body, number: (500, {"error": {"message": "out of memory"}}, {})
    with pytest.raises(EndpointError, match=r"500 .*out of memory \(4 attempts\)"):
        endpoint(server)([ask("p")])
    assert len(server.bodies) == 4


def test_a_wrong_request_is_not_repeated(server: FakeServer):
    server.reply = lambda body, number: (400, {"message": "max_tokens is too large"}, {})
    with pytest.raises(EndpointError, match=r"400 .*max_tokens is too large"):
        endpoint(server)([ask("p")])
    assert len(server.bodies) == 1
    server.reply = lambda body, number: (401, b"no", {})
    with pytest.raises(EndpointError, match="OPENAI_API_KEY"):
        endpoint(server)([ask("p")])


def test_the_server_may_say_how_long_to_wait(server: FakeServer):
    server.reply = lambda body, number: (
        (429, {}, {"Retry-After": "1"}) if number == 1 else (200, server.completion("x"), {})
    )
    start = time.monotonic()
    endpoint(server)([ask("p")])
    assert time.monotonic() - start >= 1


def test_a_silent_server_is_given_up_after_the_time_limit(server: FakeServer):
    def sleep(body: dict, number: int) -> Reply:
        time.sleep(1.0)
        return 200, server.completion("late"), {}

    server.reply = sleep
    with pytest.raises(EndpointError, match=r"did not answer within 0\.1 s.*--request-timeout.*2 attempts"):
        endpoint(server, timeout=0.1, retries=1)([ask("p")])


def test_nobody_listens():
    with pytest.raises(EndpointError, match="cannot be reached"):
        Endpoint("http://127.0.0.1:9/v1", "m", 4, retries=0)([ask("p")])
    problem = served_model("http://127.0.0.1:9/v1", None)
    assert isinstance(problem, Problem) and "vllm serve" in problem.fix


@pytest.mark.parametrize(
    "answer", [b"<html>proxy</html>", {"choices": []}, {"error": "x"}, {"choices": [{"index": 0}]}, ["text"]]
)
def test_answers_that_are_no_completion(server: FakeServer, answer: object):
    server.reply = lambda body, number: (200, answer, {})
    with pytest.raises(EndpointError, match=r"not JSON|without choices"):
        endpoint(server)([ask("p")])
    assert len(server.bodies) == 1


def test_which_model_is_served(server: FakeServer):
    assert served_model(server.url, None) == "tiny"
    assert served_model(server.url, "tiny") == "tiny"
    assert "no model 'big'" in str(served_model(server.url, "big"))
    server.models = {"data": [{"id": "a"}, {"id": "b"}]}
    assert "2 models: a, b" in str(served_model(server.url, None))
    server.models = {"detail": "nothing"}
    assert "0 models" in str(served_model(server.url, None))


@pytest.mark.parametrize(
    "text, url",
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("http://host/v1/", "http://host/v1"),
        ("http://host/v1/completions", "http://host/v1"),
        ("https://host/openai/v2/chat/completions", "https://host/openai/v2"),
        ("http://vllm:8000", "http://vllm:8000/v1"),
    ],
)
def test_base_url(text: str, url: str):
    assert base_url(text) == url


def test_no_url():
    with pytest.raises(ValueError, match="no URL"):
        base_url("localhost:8000")
