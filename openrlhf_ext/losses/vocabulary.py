"""KL(policy || reference) over the whole vocabulary at the offline actions, without a [B, L, V] tensor.

The regulariser of OREO (arXiv:2412.16145, L_reg) needs both full distributions at every action. Here the two heads are applied to the
hidden states of the action columns only, a few rows at a time; in training each chunk's logits are computed again in the backward pass,
so that at most `chunk` x V logits of each model exist at once. N = kept columns, H = width, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

Head = Callable[[torch.Tensor], torch.Tensor]
"""Hidden states [N, H] -> logits [N, V]."""


class ActionTerms(NamedTuple):
    """Per column, 0 where there is no action; both [B, A]."""

    log_probs: torch.Tensor
    kl: torch.Tensor


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
) -> ActionTerms:
    """Log-probability of every action and the full KL in its state.

    `hidden`, `ref_hidden`: [B, A, H], the last hidden states of columns 0..L-2; `actions`: [B, A], the tokens 1..L-1; `chunk`: rows of
    logits at a time. Gradients flow to `hidden` and the parameters of `head`. Values do not depend on `chunk`.
    """
    if chunk < 1:
        raise ValueError(f"chunk is the number of rows of logits held at a time: at least 1, got {chunk}")
    if (
        hidden.shape[:2] != is_action.shape
        or actions.shape != is_action.shape
        or ref_hidden.shape[:2] != is_action.shape
    ):
        raise ValueError(
            f"hidden {tuple(hidden.shape)}, ref_hidden {tuple(ref_hidden.shape)}, actions {tuple(actions.shape)} and is_action "
            f"{tuple(is_action.shape)} must agree in [B, A]"
        )
    kept = is_action.bool()
    rows = zip(
        hidden[kept].split(chunk), ref_hidden[kept].detach().split(chunk), actions[kept].split(chunk), strict=True
    )

    def of_rows(
        states: torch.Tensor, ref_states: torch.Tensor, taken: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        log_p = torch.log_softmax(_wide(head(states)), dim=-1)
        with torch.no_grad():
            log_q = torch.log_softmax(_wide(ref_head(ref_states)), dim=-1)
        return log_p.gather(-1, taken.unsqueeze(-1)).squeeze(-1), _kl(log_p, log_q)

    parts = [checkpoint(of_rows, *row, use_reentrant=False, preserve_rng_state=False) for row in rows]
    return ActionTerms(*(_spread([part[i] for part in parts], kept, hidden) for i in range(2)))


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


def _spread(parts: list[torch.Tensor], kept: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The rows' numbers back in their columns."""
    rows = torch.cat(parts) if parts else _wide(like.flatten()[:0])
    return rows.new_zeros(kept.shape).masked_scatter(kept, rows)


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
