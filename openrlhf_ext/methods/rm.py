"""A reward model from preference pairs, through OpenRLHF's own program on a placement group.

Bradley-Terry loss, value head, saving with the head's name in the config: upstream's. Its data set is replaced, so that the token ids are those that PPO
scores: prompt, answer and the end token as generation emits it.

Run: ``openrlhf-ext train rm --config examples/configs/rm_chain_tiny.yaml``
"""

from __future__ import annotations

from openrlhf_ext.methods.base import Recipe
from openrlhf_ext.methods.preference import names, tell_workers

RM = Recipe(
    "rm",
    program="rm",
    kind="program",
    names=lambda resolved: names(resolved, "openrlhf_ext.methods.rm_trainer:RecordedRMTrainer"),
    tell_workers=tell_workers,
)
