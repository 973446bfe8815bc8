"""Value-guided search on toys whose best answer is known, and how a wrong value or a wrong reading loses it."""

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrlhf_ext.rollout.search import Beam, Counts, Step, Tokens, beam_search, best_of

PROMPT = (100,)
HORIZON, BRANCHING = 4, 3


def every_child(prefixes: Sequence[Tokens], samples: int) -> list[list[Step]]:
    """All continuations of a tree of single-token steps; the last level finishes."""
    ends = ["finished" if len(p) == HORIZON else "step" for p in prefixes]
    return [[Step((i % BRANCHING,), end) for i in range(samples)] for end in ends]


def soft_values(rewards: dict[Tokens, float], beta: float = 0.1) -> dict[Tokens, float]:
    """V* of every prefix under a uniform reference."""
    values = {PROMPT + path: reward for path, reward in rewards.items()}
    for depth in reversed(range(HORIZON)):
        for path in itertools.product(range(BRANCHING), repeat=depth):
            below = [values[(*PROMPT, *path, a)] for a in range(BRANCHING)]
            values[PROMPT + path] = beta * math.log(sum(math.exp(v / beta) for v in below) / BRANCHING)
    return values


PATHS = list(itertools.product(range(BRANCHING), repeat=HORIZON))


def script(table: dict[Tokens, list[Step]]):
    """A proposer that answers from a table, cutting or repeating nothing."""
    return lambda prefixes, samples: [table[p][:samples] for p in prefixes]


@given(st.sets(st.sampled_from(PATHS), min_size=1), st.integers(1, 5))
@settings(max_examples=60)
def test_the_optimal_value_always_leads_to_a_rewarded_leaf(rewarded: set[Tokens], beams: int) -> None:
    values = soft_values({path: float(path in rewarded) for path in PATHS})
    (found,) = beam_search(
        [PROMPT], every_child, lambda ps: [values[p] for p in ps], beams=beams, samples=BRANCHING, max_steps=HORIZON
    )
    assert found.best is not None and found.best.response in rewarded and found.best.steps == HORIZON


def test_a_value_read_without_the_last_token_loses_the_answer() -> None:
    # The published reading: siblings get their parent's value, and the first one wins.
    values = soft_values({path: float(path == (2, 2, 2, 2)) for path in PATHS})

    def search(read) -> Tokens:
        (found,) = beam_search([PROMPT], every_child, read, beams=1, samples=BRANCHING, max_steps=HORIZON)
        return found.best.response

    assert search(lambda ps: [values[p] for p in ps]) == (2, 2, 2, 2)
    assert search(lambda ps: [values[p[:-1]] for p in ps]) == (0, 0, 0, 0)
    assert search(lambda ps: [-values[p] for p in ps]) != (2, 2, 2, 2)


def test_a_wider_beam_forgives_a_misleading_value() -> None:
    # After one step the wrong branch looks better; only a beam of two still holds the right one.
    table = {PROMPT: [Step((1,), "step"), Step((2,), "step")]}
    table[(*PROMPT, 1)] = [Step((5,), "finished"), Step((6,), "finished")]
    table[(*PROMPT, 2)] = [Step((7,), "finished"), Step((8,), "finished")]
    values = {(1,): 0.6, (2,): 0.5, (1, 5): 0.1, (1, 6): 0.2, (2, 7): 0.9, (2, 8): 0.0}

    def best(beams: int) -> Tokens:
        read = beam_search([PROMPT], script(table), lambda ps: [values[p[1:]] for p in ps], beams=beams, samples=2)
        return read[0].best.response

    assert best(1) == (1, 6)
    assert best(2) == (2, 7)


def test_finished_answers_wait_aside_and_compete_by_value() -> None:
    table = {PROMPT: [Step((1, 9), "step"), Step((2,), "finished")]}
    table[(*PROMPT, 1, 9)] = [Step((3, 9), "step"), Step((), "finished")]
    table[(*PROMPT, 1, 9, 3, 9)] = [Step((4,), "finished"), Step((5,), "cut")]
    values = {(2,): 0.7, (1, 9): 0.2, (1, 9, 3, 9): 0.1, (1, 9, 3, 9, 4): 0.5}
    (found,) = beam_search([PROMPT], script(table), lambda ps: [values[p[1:]] for p in ps], beams=1, samples=2)
    assert [b.response for b in found.finished] == [(2,), (1, 9, 3, 9, 4), (1, 9)]
    assert [b.steps for b in found.finished] == [1, 3, 2]
    assert found.unfinished == []
    assert found.counts == Counts(proposed=6, duplicates=0, cut=1, values_read=5, tokens=7, capped=False)
    (early,) = beam_search(
        [PROMPT], script(table), lambda ps: [values[p[1:]] for p in ps], beams=1, samples=2, enough=1
    )
    assert [b.response for b in early.finished] == [(2,)] and not early.counts.capped


def test_the_value_is_asked_once_for_each_different_prefix_with_its_last_token() -> None:
    asked: list[list[Tokens]] = []

    def value(prefixes: Sequence[Tokens]) -> list[float]:
        asked.append(list(prefixes))
        return [0.0] * len(prefixes)

    # The same tokens once as a step and once as an answer: two candidates, one reading; a true repetition is merged.
    steps = [Step((1, 9), "step"), Step((1, 9), "finished"), Step((1, 9), "step"), Step((2, 9), "step")]
    (found,) = beam_search([PROMPT], lambda ps, n: [steps for _ in ps], value, beams=4, max_steps=1)
    assert asked == [[(100, 1, 9), (100, 2, 9)]]
    assert found.counts.duplicates == 1 and found.counts.values_read == 3
    assert [b.response for b in found.unfinished] == [(1, 9), (2, 9)]


def test_merged_duplicates_leave_room_for_other_beams() -> None:
    # Without merging, two copies of the better step would fill a beam of two.
    steps = [Step((1,), "step"), Step((1,), "step"), Step((2,), "step")]
    (found,) = beam_search(
        [PROMPT],
        lambda ps, n: [steps for _ in ps],
        lambda ps: [-float(p[-1]) for p in ps],
        beams=2,
        samples=3,
        max_steps=1,
    )
    assert [b.response for b in found.unfinished] == [(1,), (2,)]


def test_the_step_cap_is_counted_and_unfinished_answers_never_win() -> None:
    def never(prefixes: Sequence[Tokens], samples: int) -> list[list[Step]]:
        return [[Step((7,), "step")] * samples for _ in prefixes]

    (found,) = beam_search([PROMPT], never, lambda ps: [1.0] * len(ps), beams=2, max_steps=5)
    assert found.best is None and found.counts.capped
    assert [(b.response, b.steps) for b in found.unfinished] == [((7,) * 5, 5)]


def test_cut_answers_never_win_however_good_they_look() -> None:
    (found,) = beam_search(
        [PROMPT], lambda ps, n: [[Step((1,), "cut")] * n for _ in ps], lambda ps: [9.0] * len(ps), beams=2
    )
    assert found.best is None and found.counts == Counts(proposed=2, cut=2, tokens=2) and not found.unfinished


def test_problems_advance_together_and_do_not_mix() -> None:
    calls: list[int] = []

    def propose(prefixes: Sequence[Tokens], samples: int) -> list[list[Step]]:
        calls.append(len(prefixes))
        return [[Step((p[0] + i,), "finished" if len(p) >= p[0] else "step") for i in range(samples)] for p in prefixes]

    prompts = [(1,), (3,), (2,)]
    together = beam_search(prompts, propose, lambda ps: [float(sum(p)) for p in ps], beams=2)
    assert calls == [3, 4, 2]  # the first problem ends after one step, the last after two
    alone = [beam_search([p], propose, lambda ps: [float(sum(p)) for p in ps], beams=2)[0] for p in prompts]
    assert together == alone
    assert [r.best.steps for r in together] == [1, 3, 2]


def test_ties_go_to_the_candidate_found_first_every_time() -> None:
    steps = [Step((i,), "finished") for i in (5, 3, 4)]
    for _ in range(3):
        (found,) = beam_search([PROMPT], lambda ps, n: [steps for _ in ps], lambda ps: [0.5] * len(ps), beams=3)
        assert [b.response for b in found.finished] == [(5,), (3,), (4,)]


def test_best_of_k_plays_the_turn_of_highest_value() -> None:
    # "go to desk 1" and "go to desk 2" differ in their last token only.
    turns = [Step((4, 4, 1), "finished"), Step((4, 4, 2), "finished"), Step((4, 4, 1), "finished"), Step((4,), "cut")]
    values = {(4, 4, 1): 0.2, (4, 4, 2): 0.8}
    (choice,) = best_of([PROMPT], lambda ps, n: [turns for _ in ps], lambda ps: [values[p[1:]] for p in ps], k=4)
    assert choice.tokens == (4, 4, 2) and choice.value == 0.8
    assert choice.candidates[1] == Beam(PROMPT, (4, 4, 1), 1, 0.2, True)
    assert choice.counts == Counts(proposed=4, duplicates=1, cut=1, values_read=2, tokens=10)


def test_best_of_k_has_no_turn_where_every_sample_was_cut() -> None:
    stops = [Step((1,), "step"), Step((2,), "cut")]
    (choice,) = best_of([PROMPT], lambda ps, n: [stops for _ in ps], lambda ps: [1.0] * len(ps), k=2)
    assert choice.tokens is None and math.isnan(choice.value) and choice.counts.cut == 2


def test_nothing_to_search() -> None:
    def never(*_: object) -> list:
        raise AssertionError("asked for nothing")

    assert beam_search([], never, never, beams=2) == []
    assert best_of([], never, never, k=2) == []


@pytest.mark.parametrize(
    ("propose", "value", "message"),
    [
        (lambda ps, n: [[Step((1,), "step")]] * len(ps), lambda ps: [0.0] * len(ps), "2 continuations of 1 prefixes"),
        (lambda ps, n: [[Step((), "step")] * n] * len(ps), lambda ps: [0.0] * len(ps), "a step without tokens"),
        (every_child, lambda ps: [0.0], "asked about 2 prefixes and returned 1"),
        (every_child, lambda ps: [math.nan] * len(ps), "2 of 2 prefixes is not a number"),
    ],
)
def test_broken_callables_are_named(propose, value, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        beam_search([PROMPT], propose, value, beams=2)


def test_bad_requests_are_named() -> None:
    with pytest.raises(ValueError, match="beams must be at least 1, got 0"):
        beam_search([PROMPT], every_child, lambda ps: [], beams=0)
    with pytest.raises(ValueError, match="k must be at least 1"):
        best_of([PROMPT], every_child, lambda ps: [], k=0)
