"""KL(policy || reference) over the whole vocabulary at the offline actions, without a [B, L, V] tensor.

The regulariser of OREO (arXiv:2412.16145, L_reg) needs both full distributions at every action. Here the two heads are applied to the
hidden states of the action columns only, a few rows at a time; in training each chunk's logits are computed again in the backward pass,
so that at most `chunk` x V logits of each model exist at once. N = kept columns, H = width, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

Head = Callable[[torch.Tensor], torch.Tensor]
"""Hidden states [N, H] -> logits [N, V]."""


class ActionTerms(NamedTuple):
    """Per column, 0 where there is no action; [B, A] each. `ref_log_probs` carries no gradient."""

    log_probs: torch.Tensor
    kl: torch.Tensor
    ref_log_probs: torch.Tensor


def full_kl(logits: torch.Tensor, ref_logits: torch.Tensor) -> torch.Tensor:
    """sum_v p_v (log p_v - log q_v), p = softmax(logits), q = softmax(ref_logits); [..., V] -> [...]. Gradient to `logits` only.

    A token that the policy excludes (logit -inf) adds 0; one that only the reference excludes makes it inf, as it should.
    """
    return _kl(torch.log_softmax(_wide(logits), dim=-1), torch.log_softmax(_wide(ref_logits.detach()), dim=-1))


def action_terms(
    hidden: torch.Tensor,
    ref_hidden: torch.Tensor,
    actions: torch.Tensor,
    is_action: torch.Tensor,
    head: Head,
    ref_head: Head,
    chunk: int = 256,
    pieces: int | None = None,
) -> ActionTerms:
    """Log-probability of every action and the full KL in its state.

    `hidden`, `ref_hidden`: [B, A, H], the last hidden states of columns 0..L-2; `actions`: [B, A], the tokens 1..L-1; `chunk`: most rows
    of logits at a time. Gradients flow to `hidden` and the parameters of `head`. Values do not depend on `chunk`.
    `pieces`: how often the heads are called; ranks that gather sharded heads must agree on it (see :func:`pieces_of`).
    """
    _require_columns(chunk, is_action, hidden=hidden, ref_hidden=ref_hidden, actions=actions)
    kept = is_action.bool()
    rows = _cut(kept, chunk, pieces, hidden, ref_hidden.detach(), actions)

    def of_rows(
        states: torch.Tensor, ref_states: torch.Tensor, taken: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        log_p = torch.log_softmax(_wide(head(states)), dim=-1)
        with torch.no_grad():
            log_q = torch.log_softmax(_wide(ref_head(ref_states)), dim=-1)
        return _of(taken, log_p), _kl(log_p, log_q), _of(taken, log_q)

    parts = [checkpoint(of_rows, *row, use_reentrant=False, preserve_rng_state=False) for row in rows]
    return ActionTerms(*(_spread([part[i] for part in parts], kept, hidden) for i in range(3)))


def action_log_probs(
    hidden: torch.Tensor,
    actions: torch.Tensor,
    is_action: torch.Tensor,
    head: Head,
    chunk: int = 256,
    pieces: int | None = None,
) -> torch.Tensor:
    """Log-probability of every action, 0 elsewhere, as :func:`action_terms` gives it but without a reference; [B, A]."""
    _require_columns(chunk, is_action, hidden=hidden, actions=actions)
    kept = is_action.bool()

    def of_rows(states: torch.Tensor, taken: torch.Tensor) -> torch.Tensor:
        return _of(taken, torch.log_softmax(_wide(head(states)), dim=-1))

    rows = _cut(kept, chunk, pieces, hidden, actions)
    parts = [checkpoint(of_rows, *row, use_reentrant=False, preserve_rng_state=False) for row in rows]
    return _spread(parts, kept, hidden)


def pieces_of(is_action: torch.Tensor, chunk: int) -> int:
    """How many pieces of at most `chunk` rows the actions make; at least 1."""
    return max(1, -(-int(is_action.sum()) // chunk))


def sampled_kl(log_ratios: torch.Tensor) -> torch.Tensor:
    """k3 of the stored actions, exp(-l) - 1 + l with l = log pi - log pi_ref; any shape. Needs no reference model, only its log-probs.

    It is 0, with zero gradient, exactly at pi = pi_ref. It is an unbiased KL only for actions drawn from pi; stored ones are not, so this
    is a penalty towards the reference and not the paper's L_reg. l below -20 is read as -20, so that exp cannot overflow.
    """
    ratio = _wide(log_ratios).clamp(min=-20.0)
    return torch.exp(-ratio) - 1 + ratio


def _kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    # p is 0 where log_p is -inf, and 0 * (-inf - log_q) would be nan, in the value and in its gradient.
    absent = torch.isneginf(log_p)
    p = log_p.exp()
    gap = log_p.masked_fill(absent, 0.0) - log_q.masked_fill(absent, 0.0)
    return (p * gap).sum(dim=-1)


def _of(taken: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    return log_p.gather(-1, taken.unsqueeze(-1)).squeeze(-1)


def _cut(
    kept: torch.Tensor, chunk: int, pieces: int | None, *tensors: torch.Tensor
) -> Iterator[tuple[torch.Tensor, ...]]:
    """The rows of the actions in `pieces` nearly equal parts, some of them empty where `pieces` asks for more than there are rows."""
    needed = pieces_of(kept, chunk)
    if pieces is not None and pieces < needed:
        raise ValueError(f"{int(kept.sum())} actions in chunks of {chunk} need {needed} pieces, got {pieces}")
    return zip(*(tensor[kept].tensor_split(pieces or needed) for tensor in tensors), strict=True)


def _require_columns(chunk: int, is_action: torch.Tensor, **tensors: torch.Tensor) -> None:
    if chunk < 1:
        raise ValueError(f"chunk is the number of rows of logits held at a time: at least 1, got {chunk}")
    if any(tensor.shape[:2] != is_action.shape for tensor in tensors.values()):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"{shapes} and is_action {tuple(is_action.shape)} must agree in [B, A]")


def _spread(parts: list[torch.Tensor], kept: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The rows' numbers back in their columns."""
    rows = torch.cat(parts) if parts else _wide(like.flatten()[:0])
    return rows.new_zeros(kept.shape).masked_scatter(kept, rows)


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
