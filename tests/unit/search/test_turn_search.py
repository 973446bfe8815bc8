"""Best-of-K over an agent's turns: the value decides which turn is played, and the episode is counted as any other."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from openrlhf_ext.evaluate.asking import Prefix
from openrlhf_ext.prepare.word_tokenizer import word_level_tokenizer
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.rollout.search import Tokens
from openrlhf_ext.rollout.turns import turn_format
from openrlhf_ext.search.turns import TurnSearch
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.environment import turns_of
from openrlhf_ext.tasks.household.generate import generate
from openrlhf_ext.tasks.household.vocabulary import CHAT_TEMPLATE, PIECES
from openrlhf_ext.tasks.household.walk import oracle_walk

PROBLEMS = generate({"train": 3}, seed=4)["train"]
PROMPTS = [Prompt(i, "x", json.dumps({"problem": p.to_json()}), "household") for i, p in enumerate(PROBLEMS)]


@pytest.fixture(scope="module")
def tokenizer():
    made = word_level_tokenizer(PIECES, 1)
    made.chat_template = CHAT_TEMPLATE
    return made


class Policy:
    """Says the right action in every `nth` sample of a state and "look" in the others; greedily always "look"."""

    def __init__(self, tokenizer, nth: int = 3, cut: bool = False) -> None:
        self.tokenizer, self.nth, self.cut = tokenizer, nth, cut
        self.asked: list[Prefix] = []

    def right(self, prefix: Sequence[int]) -> str:
        text = self.tokenizer.decode(list(prefix))
        problem = next(p for p in PROBLEMS if p.goal in text)
        return oracle_walk(problem)[list(prefix).count(self.tokenizer.eos_token_id)]

    def __call__(self, prefixes: Sequence[Prefix]) -> list[dict]:
        answers = []
        for i, prefix in enumerate(prefixes):
            self.asked.append(prefix)
            said = self.right(prefix.tokens) if prefix.temperature and i % self.nth == self.nth - 1 else "look"
            tokens = [*self.tokenizer(said, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
            answers.append(
                {"tokens": tokens[:-1], "finish": "length", "stop": None}
                if self.cut
                else {"tokens": tokens, "finish": "stop", "stop": None}
            )
        return answers


def search(tokenizer, **options: object) -> TurnSearch:
    task = make_task({"name": "household", "instruction": "none", **options})
    return TurnSearch(
        task=task,  # type: ignore[arg-type]
        form=turn_format(tokenizer),
        encode=lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
        decode=lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True),
        turn_tokens=12,
        room=2000,
        temperature=1.0,
        seed=0,
    )


def test_the_value_picks_the_turn_that_is_played(tokenizer) -> None:
    policy, read = Policy(tokenizer), []

    def value(prefixes: Sequence[Tokens]) -> list[float]:
        read.extend(prefixes)
        return [float(not tokenizer.decode(list(prefix)).endswith("> look")) for prefix in prefixes]

    rows = search(tokenizer, max_turns=12).play(PROMPTS, policy, value, k=3)
    for row, problem, prompt in zip(rows, PROBLEMS, PROMPTS, strict=True):
        walk = oracle_walk(problem)
        assert row["correct"] and row["problem_id"] == prompt.problem_id
        assert turns_of(row["text"]) == walk
        assert row["metrics"]["turns"] == row["search"]["steps"] == len(walk)
        assert row["search"]["proposed"] == 3 * len(walk) and row["search"]["duplicates"] == len(walk)
        assert row["search"]["values_read"] == 2 * len(walk) and row["search"]["value"] == 1.0
    # Read after the turn's text, before its end token: the last token is never the end token.
    assert read and all(prefix[-1] != tokenizer.eos_token_id for prefix in read)


def test_a_value_that_prefers_the_wrong_turn_loses(tokenizer) -> None:
    def value(prefixes: Sequence[Tokens]) -> list[float]:
        return [float(tokenizer.decode(list(prefix)).endswith("> look")) for prefix in prefixes]

    rows = search(tokenizer, max_turns=4).play(PROMPTS, Policy(tokenizer), value, k=3)
    assert [row["metrics"]["timeouts"] for row in rows] == [1.0] * 3
    assert all(row["search"]["capped"] and row["search"]["finished_correct"] == 0 for row in rows)


def test_greedy_turns_go_the_same_way(tokenizer) -> None:
    policy = Policy(tokenizer)
    rows = search(tokenizer, max_turns=4).play(PROMPTS, policy)
    assert [turns_of(row["text"]) for row in rows] == [["look"] * 4] * 3
    assert {prefix.temperature for prefix in policy.asked} == {0.0}
    assert rows[0]["search"] == {"generated": 8} and rows[0]["tokens"] == 8  # "look" and the end token, four times


def test_turns_that_were_all_cut_are_invalid(tokenizer) -> None:
    rows = search(tokenizer, max_turns=3).play(PROMPTS, Policy(tokenizer, cut=True), lambda p: [0.0] * len(p), k=2)
    assert [row["metrics"]["invalid_actions"] for row in rows] == [3.0] * 3
    assert rows[0]["search"]["cut"] == 6 and rows[0]["search"]["value"] is None


def test_an_episode_ends_where_its_room_does(tokenizer) -> None:
    from dataclasses import replace

    short = replace(search(tokenizer), room=120)
    rows = short.play(PROMPTS, Policy(tokenizer))
    assert all(row["truncated"] and not row["correct"] for row in rows)
    tiny = replace(search(tokenizer), room=5)
    assert [row["metrics"]["turns"] for row in tiny.play(PROMPTS, Policy(tokenizer))] == [0.0] * 3
