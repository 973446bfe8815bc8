"""KTO: preference learning from single responses that are called good or bad, as a baseline beside OREO.

Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization", arXiv:2402.01306. OpenRLHF removed its own in 0.9.6.
B = responses; l = log pi(y|x) - log pi_ref(y|x), summed over the response.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def reference_point(mismatched_log_ratios: torch.Tensor) -> torch.Tensor:
    """max(0, mean l) over responses paired with another problem's prompt, without gradient; scalar. An estimate of KL(pi || pi_ref).

    `mismatched_log_ratios`: [M] over the whole batch, all ranks together: every rank must use the same point. M >= 1.
    """
    if mismatched_log_ratios.numel() == 0:
        raise ValueError(
            "the KTO reference point needs at least one mismatched pair (batches of one problem have none)"
        )
    return mismatched_log_ratios.detach().float().mean().clamp(min=0.0)


def kto_losses(
    log_ratios: torch.Tensor,
    is_desirable: torch.Tensor,
    reference: torch.Tensor | float,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> torch.Tensor:
    """w_d (1 - sigmoid(beta (l - z))) for good responses, w_u (1 - sigmoid(beta (z - l))) for bad ones; [B], not reduced."""
    if log_ratios.shape != is_desirable.shape or log_ratios.dim() != 1:
        raise ValueError(
            f"log_ratios and is_desirable must be [B], got {tuple(log_ratios.shape)} and {tuple(is_desirable.shape)}"
        )
    good = is_desirable.bool()
    gap = beta * (log_ratios.float() - reference)
    weight = torch.where(good, desirable_weight, undesirable_weight)
    return weight * F.sigmoid(torch.where(good, -gap, gap))


def class_weights(desirable: int, undesirable: int) -> tuple[float, float]:
    """(w_d, w_u) such that w_d n_d = w_u n_u: the rarer class is raised above 1, the other keeps 1."""
    if desirable < 1 or undesirable < 1:
        raise ValueError(f"KTO needs both good and bad responses, got {desirable} good and {undesirable} bad")
    return max(1.0, undesirable / desirable), max(1.0, desirable / undesirable)
