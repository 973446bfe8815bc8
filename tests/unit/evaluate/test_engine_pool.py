"""What the pool asks its engines: who gets which request, with which limits and seeds. The engines are played, vLLM is not imported."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import pytest

from openrlhf_ext.evaluate import engine as engine_module
from openrlhf_ext.evaluate.asking import Ask, Prefix
from openrlhf_ext.evaluate.engine import EnginePool
from openrlhf_ext.evaluate.options import EngineOptions
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.rollout.prompts import Prompt


@dataclass
class Remote:
    """`method.remote(...)` that answers at once and remembers."""

    answer: object
    calls: list[tuple[tuple, dict]] = field(default_factory=list)

    def remote(self, *args: object, **options: object) -> object:
        self.calls.append((args, options))
        return self.answer(*args, **options)  # type: ignore[operator]


@dataclass
class Engine:
    name: str

    def __post_init__(self) -> None:
        self.generate_responses = Remote(lambda **asked: [{"engine": self.name, "prompt": asked["prompt"]}])
        self.continue_tokens = Remote(lambda tokens, params: {"engine": self.name, "tokens": [*tokens, 1]})
        self.usage = Remote(lambda: {"requests": 2, "prompt_tokens": 30, "cached_tokens": 10, "generated_tokens": 5})


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[EnginePool]:
    vllm = ModuleType("vllm")
    vllm.SamplingParams = lambda **values: SimpleNamespace(**values)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    rollout_engines = ModuleType("openrlhf_ext.rollout.engines")
    rollout_engines.USAGE = ("requests", "prompt_tokens", "cached_tokens", "generated_tokens")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openrlhf_ext.rollout.engines", rollout_engines)
    monkeypatch.setattr(engine_module, "wait_for", lambda refs, what, seconds: list(refs))
    with Progress(1, "test", io.StringIO()) as progress:
        played = EnginePool(EngineOptions("cpu", "float32", count=2), progress)
        played.engines = [Engine("a"), Engine("b")]
        played._length, played._tokenizer = 64, "tokenizer"
        yield played


def test_answers_are_dealt_to_all_engines_in_order(pool: EnginePool) -> None:
    asks = [Ask(Prompt(i, f"p{i}", "{}", "chain"), 0, temperature=0.5 * (i > 0), seed=10 + i) for i in range(5)]
    answers = pool.answers(16, 0.9, top_k=7, stop=("\n\n",), logprobs=True)(asks)
    assert [a["prompt"] for a in answers] == ["p0", "p1", "p2", "p3", "p4"]
    assert [a["engine"] for a in answers] == ["a", "b", "a", "b", "a"]
    greedy, sampled = (pool.engines[i].generate_responses.calls[0][1]["sampling_params"] for i in (0, 1))
    assert (greedy.temperature, greedy.top_p, greedy.top_k, greedy.seed) == (0.0, 1.0, 0, None)
    assert (sampled.temperature, sampled.top_p, sampled.top_k) == (0.5, 0.9, 7)
    assert (sampled.seed, sampled.max_tokens) == (11, 16)
    assert sampled.stop == ["\n\n"] and sampled.logprobs == 0 and sampled.min_tokens == 1


def test_an_evaluation_asks_as_before_without_stop_strings_and_log_probs(pool: EnginePool) -> None:
    pool.answers(16, 1.0)([Ask(Prompt(0, "p", "{}", "chain"), 0, 1.0, 3)])
    params = pool.engines[0].generate_responses.calls[0][1]["sampling_params"]
    assert params.stop is None and params.logprobs is None and params.top_k == 0


def test_prefixes_of_a_group_go_to_one_engine_with_their_own_room(pool: EnginePool) -> None:
    prefixes = [
        Prefix((5, 6), 1.0, 7, group=3),
        Prefix((5, 6, 7), 1.0, 8, group=3, room=2),
        Prefix((9,), 0.0, 9, group=4),
    ]
    answers = pool.continuations(10, stop=["\n"])(prefixes)
    assert [answer["engine"] for answer in answers] == ["b", "b", "a"]
    assert [answer["tokens"] for answer in answers] == [[5, 6, 1], [5, 6, 7, 1], [9, 1]]
    first, second = (args[1] for args, _ in pool.engines[1].continue_tokens.calls)
    assert (first.max_tokens, second.max_tokens) == (10, 2) and (first.seed, second.seed) == (7, 8)
    # A stop string in the first token counts, as does an end token there.
    assert first.min_tokens == 0 and first.stop == ["\n"]


def test_counts_are_sums_over_the_engines(pool: EnginePool) -> None:
    assert pool.usage() == {"requests": 4, "prompt_tokens": 60, "cached_tokens": 20, "generated_tokens": 10}
