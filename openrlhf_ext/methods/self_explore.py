"""Self-Explore (arXiv:2404.10346), its last stage: DPO on the first step of a wrong solution from which no sample reached the answer.

The pairs come from `explore` and `prepare pairs --kind step`: prompt = question and the steps before the pit, chosen = a continuation that reaches the
answer, rejected = the pit alone. Outcome pairs train with the same settings, and `train kto` takes the same file.

Run: ``openrlhf-ext train self-explore --config examples/configs/self_explore_chain_tiny.yaml``
"""

from __future__ import annotations

from openrlhf_ext.methods.base import Recipe
from openrlhf_ext.methods.dpo import TRAINER
from openrlhf_ext.methods.preference import names, tell_workers

SELF_EXPLORE = Recipe(
    "self-explore",
    program="dpo",
    kind="program",
    names=lambda resolved: names(resolved, TRAINER),
    tell_workers=tell_workers,
)
