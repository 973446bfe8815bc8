"""What the sync check can see: every kind of tensor that arrived wrong."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.upstream.digest import Entry, differences, entry, restored

SENT = [entry("a.weight", torch.tensor([[1.0, 2.0], [3.0, 4.0]])), entry("b.bias", torch.tensor([0.5]))]


def by_hand(tensor: torch.Tensor) -> tuple[int, int]:
    """The two sums, one value after the other: plain, and weighted with (position mod 65521) + 1."""
    words = tensor.contiguous().flatten().view(torch.int32).tolist()
    plain = sum(words)
    weighted = sum(word * (i % 65_521 + 1) for i, word in enumerate(words))
    return tuple((total + 2**63) % 2**64 - 2**63 for total in (plain, weighted))


def test_the_sums_of_three_small_integers():
    assert entry("x", torch.tensor([1, -2, 5], dtype=torch.int32)) == Entry("x", "int32", (3,), 4, 1 - 4 + 15)


@given(st.lists(st.floats(width=32, allow_nan=True), min_size=1, max_size=50))
def test_the_sums_are_those_of_a_plain_loop(values):
    tensor = torch.tensor(values, dtype=torch.float32)
    assert entry("x", tensor)[3:] == by_hand(tensor)


def test_a_tensor_longer_than_a_chunk_is_summed_whole():
    tensor = torch.arange((1 << 20) + 70_000, dtype=torch.int32)
    assert entry("x", tensor)[3:] == by_hand(tensor)


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=20), st.data())
def test_one_changed_or_two_exchanged_values_change_the_digest(values, data):
    tensor = torch.tensor(values, dtype=torch.float32)
    i, j = data.draw(st.permutations(range(len(values))))[:2]
    changed, exchanged = tensor.clone(), tensor.clone()
    changed[i] += 0.25
    exchanged[i], exchanged[j] = tensor[j], tensor[i]
    assert entry("x", changed) != entry("x", tensor)
    assert (entry("x", exchanged) == entry("x", tensor)) == (values[i] == values[j])


def test_every_width_of_number_has_a_digest():
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.bool):
        assert entry("x", torch.ones(3, dtype=dtype)).dtype == str(dtype).removeprefix("torch.")


def test_a_transposed_view_counts_by_its_values_not_by_its_memory():
    tensor = torch.arange(6.0).reshape(2, 3)
    assert entry("x", tensor.T) == entry("x", tensor.T.contiguous())
    assert entry("x", tensor.T) != entry("x", tensor)


def test_a_right_sync_has_no_differences_whatever_the_order():
    assert differences(SENT, SENT) == []
    assert differences(SENT, SENT[::-1]) == []


def test_each_way_to_be_wrong_is_named():
    changed = entry("b.bias", torch.tensor([0.75]))
    assert differences(SENT, SENT[:1]) == ["b.bias: never arrived"]
    assert differences(SENT, [*SENT, SENT[0]]) == ["a.weight: arrived 2 times"]
    assert differences(SENT[:1], SENT) == ["b.bias: arrived but is no parameter of the trainer"]
    assert differences(SENT, [SENT[0], changed])[0].startswith("b.bias: sent float32[1] ")
    assert differences(SENT, SENT, ["lm_head.weight"]) == [
        "lm_head.weight: parameter of the engine that nothing was loaded into"
    ]


def test_an_entry_survives_a_serialisation_that_makes_lists_of_tuples():
    name, dtype, shape, bits, weighted = SENT[0]
    assert restored([name, dtype, list(shape), bits, weighted]) == SENT[0]
