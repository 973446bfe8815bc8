"""KTO (arXiv:2402.01306): single responses that are good or bad. OpenRLHF has no such program any more, so its DPO program carries it.

Policy, reference, optimiser, checkpoints: upstream's. In the place of the rejected side stands a response of another problem, from which the reference point
is estimated; the loss is `losses/kto.py`.

Run: ``openrlhf-ext train kto --config examples/configs/kto_chain_tiny.yaml``
"""

from __future__ import annotations

from openrlhf_ext.methods.base import Recipe
from openrlhf_ext.methods.preference import names, tell_workers

KTO = Recipe(
    "kto",
    program="dpo",
    kind="program",
    names=lambda resolved: names(resolved, "openrlhf_ext.methods.kto_trainer:KTOTrainer"),
    tell_workers=tell_workers,
)
