"""Supervised fine-tuning through OpenRLHF's own SFT program on a placement group.

The program, its dataset, loss and trainer are upstream's; only its trainer is replaced by a subclass that also writes our run directory
(metrics, progress, checkpoints that exist whole or not at all).

Run: ``openrlhf-ext train sft --config examples/configs/sft_game24_tiny.yaml``
"""

from __future__ import annotations

from openrlhf_ext.methods.base import Recipe

SFT = Recipe(
    "sft",
    program="sft",
    kind="program",
    substitutions={"SFTTrainer": "openrlhf_ext.methods.sft_trainer:RecordedSFTTrainer"},
)
