"""What an engine answers: upstream's response graded by the task on the decoded response alone, the verifier's failures included."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace

import pytest
import torch

from openrlhf_ext.rollout import executor
from openrlhf_ext.tasks.base import Verdict

WORDS = ["<eos>", "one", "two", "#### 3", "#### 4", "\n"]


class Tokenizer:
    """Word i <-> id i; <eos> is special."""

    def __call__(self, *, text: str, add_special_tokens: bool, return_tensors: str) -> dict:
        return {"input_ids": torch.tensor([[WORDS.index(word) for word in text.split()]])}

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        return " ".join(WORDS[i] for i in ids if i or not skip_special_tokens)


class Engine:
    """Always generates the same tokens."""

    def __init__(self, tokens: list[int], finish_reason: str = "stop") -> None:
        chances = [{token: SimpleNamespace(logprob=-0.5)} for token in tokens]
        self.output = SimpleNamespace(token_ids=tokens, finish_reason=finish_reason, logprobs=chances)

    async def generate(self, prompt: list[int], params: object, multi_modal_data: object = None) -> object:
        return SimpleNamespace(outputs=[self.output])


def execute(agent: executor.AgentExecutor, engine: Engine, label: str = '{"answer": "3"}') -> dict:
    params = SimpleNamespace(max_tokens=8, logprobs=0, stop=None)
    return asyncio.run(agent.execute("one two", label, params, 32, Tokenizer(), engine))


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> executor.AgentExecutor:
    monkeypatch.setenv(executor.TASK_VARIABLE, json.dumps({"name": "chain"}))
    return executor.AgentExecutor()


def test_the_response_is_graded_and_its_text_kept(agent: executor.AgentExecutor) -> None:
    answer = execute(agent, Engine([1, 5, 3, 0]))
    assert (answer["reward"], answer["scores"], answer["verifier_error"]) == (1.0, 1.0, None)
    assert answer["text"] == "one \n #### 3"
    assert answer["observation_tokens"] == [1, 2, 1, 5, 3, 0]
    assert answer["action_ranges"] == [(2, 6)]
    assert answer["rollout_log_probs"] == [0.0, 0.0, -0.5, -0.5, -0.5, -0.5]
    assert not answer["truncated"]


def test_a_wrong_answer_and_no_answer_are_told_apart(agent: executor.AgentExecutor) -> None:
    wrong, junk = execute(agent, Engine([4, 0])), execute(agent, Engine([1, 2], "length"))
    assert (wrong["reward"], wrong["extra_logs"]["parsed"], wrong["truncated"]) == (0.0, 1.0, False)
    assert (junk["reward"], junk["extra_logs"]["parsed"], junk["truncated"]) == (0.0, 0.0, True)


class Noting:
    """A task that notes what it is shown, and fails where it is told to."""

    name, metric_keys = "noting", ("outcome",)

    def __init__(self, fail: bool = False, meet: threading.Barrier | None = None) -> None:
        self.fail, self.meet, self.shown = fail, meet, []

    def verify(self, response: str, label: object) -> Verdict:
        self.shown.append((response, label, threading.current_thread() is threading.main_thread()))
        if self.meet:
            self.meet.wait(timeout=60)
        if self.fail:
            raise RuntimeError("the verifier fell over")
        return Verdict(1.0, True, True, {"outcome": 1.0})


def test_the_task_sees_the_response_and_the_label_and_nothing_else(agent: executor.AgentExecutor) -> None:
    agent.task = Noting()
    execute(agent, Engine([2, 3, 0]), label="the label")
    assert agent.task.shown == [("two #### 3", "the label", False)]


def test_a_verifier_that_raises_is_a_counted_zero_with_the_same_keys(agent: executor.AgentExecutor) -> None:
    agent.task = Noting()
    good = execute(agent, Engine([3, 0]))
    agent.task = Noting(fail=True)
    bad = execute(agent, Engine([3, 0]))
    assert (bad["reward"], bad["scores"], bad["extra_logs"]["verifier_error"]) == (0.0, 0.0, 1.0)
    assert "the verifier fell over" in bad["verifier_error"]
    # Upstream cannot batch samples whose extra logs differ in their keys.
    assert list(bad["extra_logs"]) == list(good["extra_logs"])


def test_verifiers_run_beside_each_other_so_that_a_slow_one_does_not_stall_the_engine(
    agent: executor.AgentExecutor,
) -> None:
    agent.task = Noting(meet=threading.Barrier(2))  # passes only when two are inside at the same time

    async def both() -> list[dict]:
        params = SimpleNamespace(max_tokens=8, logprobs=0, stop=None)
        calls = [agent.execute("one", "{}", params, 32, Tokenizer(), Engine([3, 0])) for _ in range(2)]
        return await asyncio.gather(*calls)

    assert [answer["reward"] for answer in asyncio.run(both())] == [1.0, 1.0]


def test_unknown_task_options_stop_the_engine_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(executor.TASK_VARIABLE, json.dumps({"name": "game24", "cheker": "strict"}))
    with pytest.raises(ValueError, match="did you mean 'checker'"):
        executor.AgentExecutor()


def test_the_text_ends_before_a_stop_string_and_the_tokens_keep_it(agent: executor.AgentExecutor) -> None:
    params = SimpleNamespace(max_tokens=8, logprobs=None, stop=["two", "\n"])
    answer = asyncio.run(agent.execute("one two", '{"answer": "3"}', params, 32, Tokenizer(), Engine([3, 5, 1, 2])))
    assert answer["text"] == "#### 3 "  # before the line break, which comes first
    assert answer["observation_tokens"] == [1, 2, 3, 5, 1, 2] and answer["reward"] == 1.0
    assert executor.before_stop("a; b", []) == executor.before_stop("a; b", ["c"]) == "a; b"
