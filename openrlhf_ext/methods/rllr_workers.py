"""The reward models of RLLR as Ray workers: each scores the token ids that the policy wrote, a batch at a time. Imported late."""

from __future__ import annotations

from openrlhf.trainer.ray.launcher import RewardModelActor

from openrlhf_ext.upstream.actors import undecorated


class RewardWorker(undecorated(RewardModelActor)):  # type: ignore[misc]
    """One rank of a frozen reward model; ``forward(sequences, attention_mask, pad_sequence)`` is upstream's: raw scores [B] at the last token."""
