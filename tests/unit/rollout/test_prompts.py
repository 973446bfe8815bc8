"""The prompt stream: an order that depends on seed and episode alone, and a position that survives a resume."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrlhf_ext.rollout.prompts import Prompt, PromptStream

batches = st.lists(st.integers(0, 23), max_size=12)


def prompts(count: int) -> list[Prompt]:
    return [Prompt(i, f"question {i}", '{"answer": "1"}', "toy") for i in range(count)]


def stream(count: int, seed: int = 3, shuffle: bool = True) -> PromptStream:
    return PromptStream(prompts(count), seed, shuffle)


def ids(taken: list[Prompt]) -> list[int]:
    return [prompt.problem_id for prompt in taken]


def test_an_episode_holds_every_prompt_once_and_the_next_one_is_shuffled_anew() -> None:
    ordered = ids(stream(20).take(60))
    episodes = [ordered[0:20], ordered[20:40], ordered[40:60]]
    assert all(sorted(episode) == list(range(20)) for episode in episodes)
    assert episodes[0] != episodes[1] != episodes[2] != list(range(20))


def test_without_shuffling_the_order_is_that_of_the_file() -> None:
    assert ids(stream(3, shuffle=False).take(7)) == [0, 1, 2, 0, 1, 2, 0]


def test_the_order_of_an_episode_is_a_function_of_seed_and_episode() -> None:
    first, again, other = (ids(stream(50, seed).take(100)) for seed in (3, 3, 4))
    assert first == again
    assert first[:50] != other[:50]
    assert first[50:] != other[50:]


@given(batches, st.integers(1, 9))
def test_batches_join_without_loss_or_repeat(sizes: list[int], count: int) -> None:
    source = stream(count)
    taken = [problem for size in sizes for problem in ids(source.take(size))]
    assert taken == ids(stream(count).take(sum(sizes)))
    for start in range(0, len(taken), count):
        episode = taken[start : start + count]
        assert max(Counter(episode).values()) == 1


@settings(max_examples=60)
@given(batches, batches, st.integers(1, 9))
def test_a_resumed_stream_has_the_same_tail(before: list[int], after: list[int], count: int) -> None:
    source = stream(count)
    for size in before:
        source.take(size)
    resumed = stream(count)
    resumed.load_state_dict(source.state_dict())
    for size in after:
        assert ids(resumed.take(size)) == ids(source.take(size))
    assert resumed.state_dict() == source.state_dict()


def test_the_position_is_two_integers() -> None:
    source = stream(5)
    source.take(12)
    assert source.state_dict() == {"seed": 3, "episode": 2, "position": 2, "size": 5}


def test_a_batch_may_be_longer_than_the_data() -> None:
    assert Counter(ids(stream(2).take(7))).most_common(1)[0][1] == 4


def test_another_data_size_or_seed_is_refused_with_both_numbers() -> None:
    state = stream(5).state_dict()
    with pytest.raises(ValueError, match="5 prompts with seed 3, this run has 6"):
        stream(6).load_state_dict(state)
    with pytest.raises(ValueError, match="seed 3, this run has 5 with seed 4"):
        stream(5, seed=4).load_state_dict(state)


def test_a_refused_state_leaves_the_stream_as_it_was() -> None:
    source, untouched = stream(5), stream(5)
    source.take(2), untouched.take(2)
    with pytest.raises(ValueError, match="resume with the same data and seed"):
        source.load_state_dict(stream(6).state_dict())
    assert ids(source.take(5)) == ids(untouched.take(5))


def test_no_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="the training data is empty"):
        PromptStream([], 0)
