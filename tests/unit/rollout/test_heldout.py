"""Held-out evaluation: graded by what the task calls right, whatever reward the run uses; greedy accuracy and pass@k."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from openrlhf_ext.evaluate.heldout import REWARD_OPTIONS, HeldOut, judging_options, pass_rate, summarise
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.tasks import make_task

PROMPTS = [Prompt(i, f"question {i}", '{"answer": "7"}', "chain") for i in range(4)]
TEXTS = {
    0: ["3+4=7\n#### 7", "#### 8", "#### 7"],  # greedy right; sampled: wrong, right
    1: ["#### 9", "#### 9", "#### 9"],
    2: ["and so on", "and so on", "#### 7"],  # no answer; then one that is right
    3: ["#### 7", "#### 7", "#### 7"],
}


class Sampler:
    """Upstream's response dicts from the table; their own reward says the opposite of the truth."""

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, prompts: Sequence[Prompt], temperature: float, samples: int) -> list[list[dict]]:
        self.calls.append((len(prompts), temperature, samples))
        first = 0 if temperature == 0 else 1
        return [[self.response(p, TEXTS[p.problem_id][first + i]) for i in range(samples)] for p in prompts]

    def response(self, prompt: Prompt, text: str) -> dict:
        return {
            "prompt": prompt.text,
            "label": prompt.label,
            "text": text,
            "action_ranges": [(3, 3 + len(text))],
            "truncated": text == "and so on",
            "reward": 0.0 if text == "#### 7" else 1.0,
        }


def heldout(**options: object) -> HeldOut:
    return HeldOut(name="chain", prompts=PROMPTS, task=make_task({"name": "chain"}), **options)


def test_greedy_metrics_are_means_over_all_rows() -> None:
    sampler = Sampler()
    metrics, rows = heldout().run(sampler, step=5)
    assert sampler.calls == [(4, 0.0, 1)]
    assert metrics == pytest.approx(
        {
            "eval/chain/accuracy": 2 / 4,
            "eval/chain/reward": 2 / 4,
            "eval/chain/unfinished": 1 / 4,
            "eval/chain/truncated": 1 / 4,
            "eval/chain/length": (len("3+4=7\n#### 7") + 6 + 9 + 6) / 4,
            "eval/chain/verifier_errors": 0.0,
            "eval/chain/count": 4.0,
        }
    )
    assert [(row["problem_id"], row["correct"], row["mode"], row["step"]) for row in rows] == [
        (0, True, "greedy", 5),
        (1, False, "greedy", 5),
        (2, False, "greedy", 5),
        (3, True, "greedy", 5),
    ]


def test_the_reward_of_the_run_does_not_count() -> None:
    _, rows = heldout().run(Sampler(), step=1)
    assert [row["reward"] for row in rows] == [1.0, 0.0, 0.0, 1.0]


def test_pass_at_k_asks_for_k_samples_of_the_first_rows() -> None:
    sampler = Sampler()
    metrics, rows = heldout(samples=2, sample_rows=3, temperature=0.8).run(sampler, step=1)
    assert sampler.calls == [(4, 0.0, 1), (3, 0.8, 2)]
    assert metrics["eval/chain/pass@2"] == pytest.approx(2 / 3)
    assert metrics["eval/chain/pass@2_count"] == 3.0
    assert metrics["eval/chain/accuracy"] == 2 / 4
    assert [row["mode"] for row in rows] == ["greedy"] * 4 + ["sampled"] * 6
    assert [row["sample"] for row in rows[4:]] == [0, 1] * 3


def test_pass_at_k_is_left_out_between_start_and_end() -> None:
    sampler = Sampler()
    metrics, _ = heldout(samples=2, sample_rows=3).run(sampler, step=1, with_samples=False)
    assert len(sampler.calls) == 1
    assert not any("pass@" in key for key in metrics)


def test_a_game_of_24_that_cheats_is_not_counted_although_the_published_rules_pay_it() -> None:
    label = '{"numbers": [1, 5, 16, 0], "target": 24}'
    cheat = "reach 24! expression: 1.5 * 16 + 0"
    published = make_task({"name": "game24", "checker": "compatible"}).verify(cheat, label)
    evaluation = HeldOut(
        name="game24", prompts=[Prompt(0, "1 5 16 0\n", label, "game24")], task=make_task({"name": "game24"})
    )
    cheating = {
        "prompt": "",
        "label": label,
        "text": cheat,
        "action_ranges": [(0, 9)],
        "truncated": False,
        "reward": 1.0,
    }
    metrics, _ = evaluation.run(lambda *_: [[cheating]], step=0)
    assert published.correct
    assert metrics["eval/game24/accuracy"] == 0.0


def test_pass_rate_counts_groups_with_at_least_one_right() -> None:
    rows = [{"correct": c} for c in (False, True, False, False, True, True)]
    assert pass_rate(rows, 2) == pytest.approx(2 / 3)
    assert pass_rate(rows, 3) == pytest.approx(1.0)
    assert pass_rate(rows, 1) == pytest.approx(0.5)


def test_rows_that_are_no_whole_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="5 rows are not whole groups of 2"):
        pass_rate([{"correct": True}] * 5, 2)


def test_nothing_to_summarise_is_an_error_not_an_accuracy() -> None:
    with pytest.raises(ValueError, match="no row was evaluated"):
        summarise([])


def test_the_reward_of_a_run_does_not_judge_its_held_out_answers() -> None:
    published = {"name": "game24", "checker": "compatible", "weights": [1, 0, 0], "length": {"t": 3}, "length.m": 9}
    assert judging_options(published | {"max_response_chars": 99}) == {"name": "game24", "max_response_chars": 99}
    assert judging_options({"name": "svamp", "tolerance": 0.01, "partial_reward": 0.1}) == {
        "name": "svamp",
        "tolerance": 0.01,
    }


def test_every_reward_option_is_one_of_a_task() -> None:
    """A task names the options it knows when it refuses one; a renamed option must not slip through to the judge."""
    with pytest.raises(ValueError, match="known: ") as game24:
        make_task({"name": "game24", "zzzzzzzz": 1})
    with pytest.raises(ValueError, match="known: ") as word_problem:
        make_task({"name": "chain", "zzzzzzzz": 1})
    known = {
        name.split(".")[0]
        for found in (game24, word_problem)
        for name in str(found.value).split("known: ")[1].split(", ")
    }
    assert known >= REWARD_OPTIONS
