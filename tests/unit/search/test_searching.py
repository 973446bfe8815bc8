"""The search over a played policy and value: steps as engines end them, the known best answer found, duplicates, caps, seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from openrlhf_ext.evaluate.asking import Prefix
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.rollout.search import Tokens
from openrlhf_ext.search.answering import Searching
from openrlhf_ext.search.batches import micro_batches
from openrlhf_ext.search.proposing import Proposer, seed_of, step_of
from openrlhf_ext.search.request import Arm
from openrlhf_ext.search.summary import effort, effort_table
from openrlhf_ext.tasks import make_task

EOS, NEWLINE = 0, 3
VOCABULARY = ["", "1+1=", "2", "\n", "#### 2", "#### 7", "9", " The", ".", " ", ". "]
FIRST, SECOND = (1,), (1, 9)  # prompts: the second begins with the first


def decode(ids: Sequence[int]) -> str:
    return "".join(VOCABULARY[i] for i in ids)


class Policy:
    """Writes `1+1=2` or `1+1=9`, then `#### 2` or `#### 7`, by the parity of its seed's bits. Counts what it was asked."""

    def __init__(self, stops: bool = True) -> None:
        self.stops, self.waves = stops, []

    def __call__(self, asks: Sequence[Prefix]) -> list[dict]:
        self.waves.append(list(asks))
        return [self.go_on(ask) for ask in asks]

    def go_on(self, ask: Prefix) -> dict:
        coin, other = ask.seed % 2, ask.seed // 2 % 2
        if ask.temperature == 0:
            coin, other = 1, 1
        line, last = [1, (2, 6)[coin], NEWLINE], [(4, 5)[other], EOS]
        started = NEWLINE in ask.tokens
        tokens = last if started else line if self.stops else line + last
        if ask.room is not None and len(tokens) > ask.room:
            return {"tokens": tokens[: ask.room], "finish": "length", "stop": None}
        return {"tokens": tokens, "finish": "stop", "stop": None if tokens[-1] == EOS else "\n"}


def value(prefixes: Sequence[Tokens]) -> list[float]:
    """High on the right line, and on the right last token: read anywhere else it would tell nothing."""
    return [{2: 0.5, 6: 0.1, 4: 1.0, 5: 0.0}.get(next(i for i in reversed(p) if i != NEWLINE), 0.3) for p in prefixes]


def searching(**changes: object) -> Searching:
    plain: dict = {
        "task": make_task({"name": "chain"}),
        "decode": decode,
        "prompts": [FIRST, SECOND],
        "delimiters": ("\n",),
        "max_new_tokens": 8,
        "step_tokens": 8,
        "max_steps": 20,
        "enough": None,
        "temperature": 1.0,
        "seed": 42,
    }
    return Searching(**plain | changes)


def problems() -> list[Prompt]:
    return [Prompt(i, decode(tokens), json.dumps({"answer": "2"}), "chain") for i, tokens in enumerate((FIRST, SECOND))]


def run(arm: Arm, **changes: object) -> tuple[list[dict], Policy]:
    policy = Policy(stops=arm.kind == "beams")
    more = {True: policy, False: policy}
    return searching(**changes).answer(arm, problems(), more, value), policy


def test_beams_find_the_answer_that_greedy_misses() -> None:
    (greedy, _), _ = run(Arm("greedy"))
    assert greedy["text"] == "1+1=9\n#### 7" and not greedy["correct"] and not greedy["truncated"]
    rows, policy = run(Arm("beams", 4, 4))
    for row in rows:
        assert row["correct"] and row["text"] == "1+1=2\n#### 2"
        assert row["search"]["value"] == 1.0 and row["search"]["steps"] == 2
        assert row["tokens"] == 4  # without the end token
    # Two steps, both problems in one wave each: 2 x 4 first lines, then 4 for each different line.
    assert [len(wave) for wave in policy.waves] == [8, 4 * sum(r["search"]["proposed"] // 4 - 1 for r in rows)]


def test_duplicates_are_merged_and_counted() -> None:
    (row, _), _ = run(Arm("beams", 4, 4))
    counts = row["search"]
    # Two different lines exist and two answers after each, so of 4 + 8 continuations (or 4 + 4) at most 2 + 4 stay.
    assert counts["proposed"] - counts["duplicates"] == counts["values_read"] <= 6
    assert counts["duplicates"] >= 4 and counts["cut"] == 0 and not counts["capped"]


def test_the_step_cap_is_counted_and_nothing_unfinished_wins() -> None:
    rows, _ = run(Arm("beams", 2, 2), max_steps=1)
    for row in rows:
        assert row["search"]["capped"] and row["search"]["finished"] == 0 and row["search"]["value"] is None
        assert (row["text"], row["correct"], row["truncated"], row["tokens"]) == ("", False, True, 0)


def test_best_of_takes_the_answer_of_the_highest_value() -> None:
    rows, policy = run(Arm("best-of", 8, 8))
    assert len(policy.waves) == 1 and len(policy.waves[0]) == 16
    for row in rows:
        candidates = row["search"]["candidates"]
        assert row["correct"] and row["search"]["value"] == max(c["value"] for c in candidates) == 1.0
        assert row["search"]["finished_correct"] == sum(c["correct"] for c in candidates) < row["search"]["finished"]


def test_an_answer_longer_than_its_room_is_cut() -> None:
    rows, _ = run(Arm("best-of", 3, 3), max_new_tokens=4)  # whole answers have 5 tokens with the end token
    assert all(row["search"]["cut"] == 3 and row["truncated"] for row in rows)
    rows, policy = run(Arm("beams", 2, 2), max_new_tokens=3)  # the first line fills it
    assert all(row["search"]["cut"] > 0 and row["search"]["finished"] == 0 for row in rows)
    assert len(policy.waves) == 1, "nothing is asked where no token is left"


def test_what_is_drawn_depends_on_prefix_seed_and_number_alone() -> None:
    whole, _ = run(Arm("beams", 3, 3))
    policy = Policy()
    alone = [searching().answer(Arm("beams", 3, 3), [p], {True: policy, False: policy}, value)[0] for p in problems()]
    assert alone == whole
    assert len({seed_of(1, FIRST, 0), seed_of(1, FIRST, 1), seed_of(1, SECOND, 0), seed_of(2, FIRST, 0)}) == 4


def test_requests_of_a_problem_share_an_engine() -> None:
    _, policy = run(Arm("beams", 2, 2))
    groups = {ask.tokens[: len(SECOND)] == SECOND: ask.group for wave in policy.waves for ask in wave}
    assert groups == {False: 0, True: 1}


def proposed(tokens: list[int], stop: str | None, delimiters: tuple[str, ...] = ("\n", ". ")) -> Tokens:
    return step_of({"tokens": tokens, "finish": "stop", "stop": stop}, delimiters, decode).tokens


def test_a_token_of_the_next_step_is_given_back() -> None:
    # ". " is complete with " The", which opens the next sentence; the delimiter's own tokens stay.
    assert proposed([1, 2, 8, 7], ". ") == (1, 2, 8)
    assert proposed([1, 2, 8, 9], ". ") == (1, 2, 8, 9)
    assert proposed([1, 2, 10], ". ") == (1, 2, 10)
    assert proposed([1, 2, NEWLINE], "\n") == (1, 2, NEWLINE)
    assert proposed([NEWLINE], "\n") == (NEWLINE,)


def test_how_a_continuation_ended() -> None:
    ends = [
        ({"tokens": [4, EOS], "finish": "stop", "stop": None}, ((4,), "finished")),
        ({"tokens": [EOS], "finish": "stop", "stop": None}, ((), "finished")),
        ({"tokens": [1, 2], "finish": "length", "stop": None}, ((1, 2), "cut")),
        ({"tokens": [1, 2, 3], "finish": "stop", "stop": "\n"}, ((1, 2, 3), "step")),
    ]
    for answer, (tokens, end) in ends:
        step = step_of(answer, ("\n",), decode)
        assert (step.tokens, step.end) == (tokens, end)


def test_nothing_is_asked_for_a_prefix_without_room() -> None:
    policy = Policy()
    propose = Proposer(policy, decode, [FIRST], ("\n",), 1.0, 1, max_new_tokens=2, step_tokens=2)
    full, half = propose([(1, 2, 2), (1, 2)], 2)
    assert [step.end for step in full] == ["cut", "cut"] and len(policy.waves[0]) == 2
    assert all(ask.room == 1 for ask in policy.waves[0]) and [step.tokens for step in half] == [(1,), (1,)]


def test_arms_are_named_by_what_they_do() -> None:
    arms = [Arm("greedy"), Arm("beams", 3, 3), Arm("beams", 3, 8), Arm("best-of", 5, 5)]
    assert [arm.name for arm in arms] == ["greedy", "beams-3", "beams-3-8-samples", "best-of-5"]


@pytest.mark.parametrize("tokens", [1, 7, 16, 1000])
def test_micro_batches_hold_everything_once_within_their_size(tokens: int) -> None:
    lengths = [3, 9, 1, 4, 4, 2, 8]
    batches = micro_batches(lengths, tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens for batch in batches)
    assert len(batches) == {1: 7, 7: 6, 16: 3, 1000: 1}[tokens]
    assert micro_batches([], tokens) == []


def test_effort_is_a_mean_over_problems() -> None:
    def row(**changes: object) -> dict:
        plain = {
            "generated": 10, "seconds": 0.5, "finished": 2, "finished_correct": 1, "proposed": 4, "duplicates": 1,
            "cut": 0, "capped": False, "values_read": 3, "steps": 2,
        }  # fmt: skip
        return {"search": plain | changes}

    figures = effort([row(), row(finished=0, finished_correct=0, capped=True, steps=0, generated=30)])
    assert figures["search/generated"] == 20 and figures["search/capped"] == 0.5
    assert figures["search/steps"] == 2 and figures["search/right_finished"] == 0.5 and figures["search/found"] == 0.5
    greedy = effort([{"search": {"generated": 4, "seconds": 0.1}}])
    assert greedy == {"search/generated": 4, "search/seconds": 0.1}
    table = effort_table({"greedy": greedy, "beams-2": figures}).splitlines()
    assert len({line.count("|") for line in table}) == 1 and "50.0%" in table[3] and table[2].count("| -") == 8
