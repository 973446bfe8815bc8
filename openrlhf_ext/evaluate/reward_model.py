"""A reward model in this process: scores of pairs of token ids. Imported late: torch and OpenRLHF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from openrlhf_ext import upstream

BATCH = 32


def load_reward_model(folder: Path, device: str) -> torch.nn.Module:
    """The model with its head as OpenRLHF saves it; float32 on a CPU, bf16 on a GPU. Scores are raw."""
    upstream.install()
    from openrlhf.models import get_llm_for_sequence_regression

    from openrlhf_ext.upstream.quiet import warnings_only, without_weight_bars

    warnings_only()
    without_weight_bars()
    model = get_llm_for_sequence_regression(
        str(folder),
        "reward",
        param_dtype="float32" if device == "cpu" else "bf16",
        attn_implementation="sdpa",
        normalize_reward=False,
    )
    return model.to(device).eval()


@torch.no_grad()
def score(
    model: torch.nn.Module, sequences: Sequence[Sequence[int]], *, pad: int, device: str = "cpu", batch: int = BATCH
) -> list[float]:
    """The score of each sequence of token ids at its last token, whatever it is batched with."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    found = [0.0] * len(sequences)
    for at in range(0, len(order), batch):
        chunk = order[at : at + batch]
        width = max(len(sequences[i]) for i in chunk)
        ids = torch.full((len(chunk), width), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(chunk):
            ids[row, : len(sequences[i])] = torch.tensor(list(sequences[i]))
            mask[row, : len(sequences[i])] = 1
        scores = model(ids.to(device), attention_mask=mask.to(device)).float().cpu().tolist()
        for i, value in zip(chunk, scores, strict=True):
            found[i] = value
    return found
