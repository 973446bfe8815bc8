"""Weights & Biases beside our own metrics: through OpenRLHF's logger, offline unless a key is given."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PLACEHOLDER = "0" * 40
"""What OpenRLHF is given for a key. It makes its W&B logger only where it has one, but also copies all its arguments, the key
among them, into the configuration that W&B stores, and logs in with it only where no other key is found. So the real one is in
the environment alone, and an offline run has none."""


def enable_wandb(args: argparse.Namespace, directory: Path) -> dict[str, str]:
    """Let OpenRLHF's arguments ask for W&B and take the key out of them.

    Returns:
        The environment of the process that makes the logger, and of no other: it may hold the key.
    """
    key, args.logger.wandb.key = args.logger.wandb.key, PLACEHOLDER
    environment = {"WANDB_DIR": str(directory.absolute()), "WANDB_SILENT": "true"}
    if key:
        return environment | {"WANDB_MODE": os.environ.get("WANDB_MODE", "online"), "WANDB_API_KEY": key}
    return environment | {"WANDB_MODE": "offline", "WANDB_API_KEY": PLACEHOLDER}


@contextmanager
def wandb_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Have these variables inside the block. W&B reads them once per process, so it is shut down at the end for the next run."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    failed = True
    try:
        yield
        failed = False
    finally:
        if environment and "wandb" in sys.modules:
            sys.modules["wandb"].teardown(exit_code=int(failed))
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
