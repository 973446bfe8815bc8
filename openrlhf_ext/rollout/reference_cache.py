"""Reference log-probs of an offline data set on disk, so that they are computed once; a changed model or changed data is noticed.

The sampled regulariser and the residuals need nothing else of the reference; the exact KL needs the reference model itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from openrlhf_ext.data.trajectory import Trajectory

CHUNK = 1 << 24


@dataclass(frozen=True)
class Fingerprint:
    """What the log-probs depend on: `model` (its files), `data` (token ids and action ranges, in order), `precision` of the forward pass."""

    model: str
    data: str
    precision: str


class StaleCache(ValueError):
    """The cache was made from something else."""


def model_fingerprint(folder: str | os.PathLike[str]) -> str:
    """SHA-256 over the names and contents of the model's config and weight files. Raises ValueError for a folder without weights."""
    folder = Path(folder)
    weights = [f for f in sorted(folder.iterdir()) if f.suffix in (".safetensors", ".bin")]
    if not weights:
        raise ValueError(f"{folder} holds no .safetensors or .bin weights")
    digest = hashlib.sha256()
    for file in [*sorted(folder.glob("*config.json")), *weights]:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(CHUNK):
                digest.update(block)
    return digest.hexdigest()


def data_fingerprint(trajectories: Sequence[Trajectory]) -> str:
    """SHA-256 over token ids and action ranges, in order. Rewards do not enter: log-probs do not depend on them."""
    digest = hashlib.sha256()
    for row in trajectories:
        digest.update(json.dumps([row["observation_tokens"], [list(r) for r in row["action_ranges"]]]).encode() + b"\n")
    return digest.hexdigest()


def write_cache(path: str | os.PathLike[str], fingerprint: Fingerprint, log_probs: Sequence[torch.Tensor]) -> None:
    """Store one float32 vector per trajectory (its columns, any length); the file appears whole or not at all."""
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    flat = torch.cat([row.detach().float().cpu().reshape(-1) for row in log_probs]) if log_probs else torch.zeros(0)
    lengths = torch.tensor([row.numel() for row in log_probs], dtype=torch.long)
    try:
        save_file({"log_probs": flat.contiguous(), "lengths": lengths}, partial, metadata=asdict(fingerprint))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_cache(path: str | os.PathLike[str], fingerprint: Fingerprint) -> list[torch.Tensor] | None:
    """The stored vectors; None where there is no file. Raises StaleCache naming what differs."""
    from safetensors import safe_open

    path = Path(path)
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as stored:
        made_from = stored.metadata() or {}
        differing = [name for name, value in asdict(fingerprint).items() if made_from.get(name) != value]
        if differing:
            raise StaleCache(
                f"{path}: the cached reference log-probs were made with another {' and another '.join(differing)}; delete the file to compute them again"
            )
        lengths = [int(length) for length in stored.get_tensor("lengths")]
        return list(stored.get_tensor("log_probs").split(lengths))
