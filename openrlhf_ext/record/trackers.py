"""Weights & Biases beside our own metrics: through OpenRLHF's logger, offline unless a key is given."""

from __future__ import annotations

import argparse
from pathlib import Path

OFFLINE_KEY = "0" * 40
"""OpenRLHF makes its W&B logger only where it is given a key; offline no server ever sees it."""


def enable_wandb(args: argparse.Namespace, directory: Path) -> dict[str, str]:
    """Let OpenRLHF's arguments ask for W&B; returns the environment that every process of the run needs for it."""
    environment = {"WANDB_DIR": str(directory.absolute()), "WANDB_SILENT": "true"}
    if not args.logger.wandb.key:
        args.logger.wandb.key = OFFLINE_KEY
        environment |= {"WANDB_MODE": "offline", "WANDB_API_KEY": OFFLINE_KEY}
    return environment
