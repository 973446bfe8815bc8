"""DPO, and IPO or a smoothed DPO by OpenRLHF's switches, through OpenRLHF's own program on a placement group.

The loss, the NLL term and the optimiser are upstream's. Its data set is replaced, because it would train another text than the pair's (see
`data/step_preference.py`), and its trainer by a subclass that also writes our run directory.

Run: ``openrlhf-ext train dpo --config examples/configs/dpo_chain_tiny.yaml``
"""

from __future__ import annotations

from openrlhf_ext.methods.base import Recipe
from openrlhf_ext.methods.preference import names, tell_workers

TRAINER = "openrlhf_ext.methods.dpo_trainer:RecordedDPOTrainer"

DPO = Recipe(
    "dpo",
    program="dpo",
    kind="program",
    names=lambda resolved: names(resolved, TRAINER),
    tell_workers=tell_workers,
)
