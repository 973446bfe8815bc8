"""An agent behind a server: turns of one conversation, time-outs and invalid actions counted, the episode kept and judged once."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from openrlhf_ext.evaluate.agent_endpoint import AgentEndpoint
from openrlhf_ext.evaluate.asking import Ask, _graded
from openrlhf_ext.evaluate.endpoint import Endpoint, EndpointError
from openrlhf_ext.evaluate.run import _remark
from openrlhf_ext.evaluate.suite import load_suite, override, read_questions
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.household.generate import generate
from openrlhf_ext.tasks.household.walk import oracle_walk

if TYPE_CHECKING:
    from conftest import FakeServer, Reply

PROBLEMS = generate({"seen": 3}, seed=11)["seen"]


def asks(temperature: float = 0.0) -> list[Ask]:
    return [
        Ask(Prompt(i, "short", json.dumps({"problem": p.to_json()}), "household"), 0, temperature, seed=i)
        for i, p in enumerate(PROBLEMS)
    ]


def agent(server: FakeServer, **options: object) -> AgentEndpoint:
    endpoint = Endpoint(url=server.url, model="tiny", max_new_tokens=9, system="", first_pause=0.01, timeout=10.0)
    return AgentEndpoint(endpoint, make_task({"name": "household", **options}), "be brief")  # type: ignore[arg-type]


def says(server: FakeServer, turn) -> None:
    def reply(body: dict, number: int) -> Reply:
        choice = {"message": {"role": "assistant", "content": turn(body["messages"])}, "finish_reason": "stop"}
        return 200, {"choices": [choice], "usage": {"completion_tokens": 3}}, {}

    server.reply = reply


def expert(messages: list[dict]) -> str:
    """The next action of the shortest walk, found by the goal in the first message and the turns so far."""
    problem = next(p for p in PROBLEMS if messages[1]["content"].endswith(p.goal) and p.goal)
    return "Thought: on\nAction: " + oracle_walk(problem)[sum(m["role"] == "assistant" for m in messages)]


def test_an_expert_behind_a_server_wins_every_game(server: FakeServer) -> None:
    says(server, expert)
    play = agent(server, style="react")
    rows = [_graded(a, r, play.task, "greedy") for a, r in zip(asks(), play(asks()), strict=True)]
    assert [row["correct"] for row in rows] == [True] * 3
    for row, problem in zip(rows, PROBLEMS, strict=True):
        walk = oracle_walk(problem)
        assert row["metrics"] == {"turns": len(walk), "invalid_actions": 0, "timeouts": 0, "unfinished": 0}
        assert row["tokens"] == 3 * len(walk) and row["truncated"] is False
        assert re.findall(r"Action: (.*)", row["text"]) == walk  # the played trajectory is kept
        assert "- put {object} in/on {place}" in row["prompt"]  # forms of commands, from the game
    first = server.bodies[0]
    assert first["messages"][0] == {"role": "system", "content": "be brief"} and first["max_tokens"] == 9
    assert set(server.paths) == {"/v1/chat/completions"}


def test_a_bad_agent_is_counted_turn_by_turn(server: FakeServer) -> None:
    says(server, lambda messages: "look" if len(messages) % 4 == 2 else "dance")
    rows = agent(server, max_turns=5)(asks())
    assert {json.dumps(row["verdict"]["metrics"]) for row in rows} == {
        json.dumps({"turns": 5.0, "invalid_actions": 2.0, "timeouts": 1.0, "unfinished": 1.0})
    }
    assert all(row["verdict"]["reward"] == 0 and not row["truncated"] for row in rows)


def test_each_turn_has_its_own_seed(server: FakeServer) -> None:
    says(server, lambda messages: "look")
    agent(server, max_turns=3)(asks(0.7)[:1])
    assert len({body["seed"] for body in server.bodies}) == 3


def test_a_full_context_truncates_the_episode_and_another_error_ends_all(server: FakeServer) -> None:
    def full(body: dict, number: int) -> Reply:
        if number <= 2:
            return 200, {"choices": [{"message": {"content": "look"}, "finish_reason": "stop"}]}, {}
        return 400, {"error": {"message": "This model's maximum context length is 64 tokens"}}, {}

    server.reply = full
    (row,) = agent(server)(asks()[:1])
    assert row["truncated"] is True and row["verdict"]["metrics"]["turns"] == 2.0
    server.reply = lambda body, number: (400, {"error": {"message": "no such model"}}, {})
    with pytest.raises(EndpointError, match="no such model"):
        agent(server)(asks()[:1])


def test_the_suites_name_their_games_honestly() -> None:
    from types import SimpleNamespace

    suite = load_suite("household_toy")
    assert (suite.split, suite.task["max_turns"]) == ("unseen", 40)
    questions = read_questions(suite)
    seen = read_questions(override(suite, split="seen"))
    assert len(questions) == len(seen) == 60 and questions != seen
    prompts = [Prompt(i, q.question, json.dumps(q.label), "household") for i, q in enumerate(questions)]
    for name, words in (("household_toy", "built-in toy"), ("household_engine", "ALFWorld's engine")):
        checked = SimpleNamespace(task=make_task(load_suite(name).task), shares=(), prompts=prompts)
        assert words in _remark(checked) and "not ALFWorld figures" in _remark(checked)  # type: ignore[arg-type]
    checked = SimpleNamespace(task=make_task({"name": "chain"}), shares=(), prompts=prompts)
    assert _remark(checked) == ""  # type: ignore[arg-type]
