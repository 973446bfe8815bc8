"""What is known about a reward model's scores, in `reward_scale.json` beside its weights: measured on held-out pairs by `openrlhf-ext score`.

A score has no unit of its own: training the model again changes it. Whatever is said on its scale, tau above all, is kept with the model.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

FILE = "reward_scale.json"


@dataclass(frozen=True)
class RewardScale:
    """Scores of both sides of held-out pairs."""

    mean: float
    std: float
    tau: float
    """The suggested cap of a label score: the quantile `tau_quantile` of the chosen scores."""
    tau_quantile: float
    highest: float
    """The highest score of a chosen answer."""
    pairs: int
    accuracy: float
    """Share of pairs whose chosen side scored higher; ties count half."""
    margin: float
    """Mean of chosen minus rejected."""
    chosen_quantiles: dict[str, float] = field(default_factory=dict)
    rejected_quantiles: dict[str, float] = field(default_factory=dict)


def read_scale(model: Path) -> RewardScale | None:
    """The scale of the model in a folder; None where there is none. Raises ValueError for a file that is not one."""
    path = model / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return RewardScale(**{f.name: content[f.name] for f in fields(RewardScale)})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what openrlhf-ext score writes ({error}): measure the model again") from error


def write_scale(model: Path, scale: RewardScale) -> Path:
    """Writes the file into the model's folder, whole or not at all."""
    path = model / FILE
    partial = path.with_name(f".{FILE}.{os.getpid()}.tmp")
    partial.write_text(json.dumps(asdict(scale), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path
