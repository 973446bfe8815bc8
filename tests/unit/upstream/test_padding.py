"""The padding helpers against loops, and flash-attn's absence outside the moment it is lent."""

import importlib.util
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.upstream.padding import flash_attn_lent, index_first_axis, pad_input, unpad_input

MASK = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 0]])
PADDED = torch.arange(9.0).reshape(3, 3, 1)


def test_unpad_keeps_the_attended_tokens_row_by_row():
    tokens, indices, cumulative, longest, lengths = unpad_input(PADDED, MASK)
    assert tokens.flatten().tolist() == [0, 1, 4, 5, 6]
    assert indices.tolist() == [0, 1, 4, 5, 6]
    assert cumulative.tolist() == [0, 2, 4, 5] and cumulative.dtype == torch.int32
    assert longest == 2
    assert lengths.tolist() == [2, 2, 1]


def test_pad_puts_them_back_and_fills_with_zero():
    tokens, indices, *_ = unpad_input(PADDED, MASK)
    assert pad_input(tokens, indices, 3, 3).squeeze(-1).tolist() == [[0, 1, 0], [0, 4, 5], [6, 0, 0]]


@given(st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=1, max_size=5))
def test_unpad_and_pad_are_a_loop_over_the_mask(rows):
    mask = torch.tensor(rows)
    values = torch.arange(mask.numel() * 2.0).reshape(*mask.shape, 2) + 1
    tokens, indices, cumulative, longest, lengths = unpad_input(values, mask)
    kept = [values[b, t].tolist() for b in range(len(rows)) for t in range(4) if rows[b][t]]
    assert tokens.tolist() == kept
    assert longest == max(map(sum, rows)) and cumulative.diff().tolist() == lengths.tolist() == list(map(sum, rows))
    assert torch.equal(pad_input(tokens, indices, *mask.shape), values * mask.unsqueeze(-1))
    assert torch.equal(index_first_axis(values.flatten(0, 1), indices), tokens)


def test_gradients_flow_through_both():
    values = torch.rand(3, 3, 1, requires_grad=True)
    tokens, indices, *_ = unpad_input(values, MASK)
    pad_input(tokens * 2, indices, 3, 3).sum().backward()
    assert values.grad.squeeze(-1).tolist() == (2.0 * MASK).tolist()


def test_flash_attn_exists_only_while_it_is_lent():
    before = importlib.util.find_spec("flash_attn")
    with flash_attn_lent():
        from flash_attn.bert_padding import pad_input as lent

        assert lent is pad_input
    assert not [name for name in sys.modules if name.split(".")[0] == "flash_attn"]
    assert importlib.util.find_spec("flash_attn") == before
