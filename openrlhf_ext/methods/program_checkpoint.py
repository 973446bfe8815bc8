"""Checkpoints of OpenRLHF's programs that exist whole or not at all, in the form that its loader reads back."""

from __future__ import annotations

from pathlib import Path

import torch.distributed as dist

from openrlhf_ext.checkpoint import save_checkpoint


def save_program_checkpoint(engine, root: Path, step: int, client_state: dict, keep: int) -> None:
    """Write ``root/step_N`` (every rank calls it): DeepSpeed's files, `trainer.json`, and `root/latest`, which DeepSpeed follows.

    OpenRLHF 0.11.2 removes the oldest checkpoint before it writes the next one in place, so that a kill in a save can leave none.
    """

    def write(directory: Path) -> None:
        dist.barrier()
        engine.save_checkpoint(str(root), tag=directory.name, client_state=client_state, save_latest=False)

    if dist.get_rank() == 0:
        save_checkpoint(root, step, write, {"step": step, **client_state}, keep)
    else:
        write(root / f"step_{step:06d}.tmp")
    dist.barrier()
