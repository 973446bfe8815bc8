"""What the methods on preferences share before anything starts: how a request reads its data, and what the workers are told."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.data.pair_options import PairOptions
from openrlhf_ext.data.pairs import Columns

if TYPE_CHECKING:
    from openrlhf_ext.config.resolved import Resolved


def pair_options(resolved: Resolved) -> PairOptions:
    """How the request reads its preferences."""
    return PairOptions(
        columns=Columns(*(resolved.text(f"data.{role}_key") for role in ("prompt", "chosen", "rejected"))),
        max_length=resolved.whole("data.max_len"),
        ends=resolved.preference.ends,
        bos=resolved.preference.bos,
        template=resolved.text("data.input_template") or None,
        chat=resolved.flag("data.apply_chat_template"),
        chat_template=resolved.text("data.tokenizer_chat_template") or None,
        with_rest=resolved.self_explore.rejected == "suffix",
        good_reward=resolved.kto.good_reward,
    )


def tell_workers(resolved: Resolved, args: argparse.Namespace) -> None:
    """Put what our classes need beside OpenRLHF's arguments, which every rank is given."""
    args.pairs = pair_options(resolved)
    cache = resolved.preference.reference_cache
    args.reference = argparse.Namespace(
        cached=resolved.preference.reference == "cached",
        file=str(Path(cache).absolute()) if cache else None,
    )
    args.kto = resolved.kto


def names(resolved: Resolved, trainer: str) -> dict[str, str]:
    """What stands for which name of OpenRLHF's program: its reader of files, its data set, its trainer, and its model where none is wanted."""
    module = "openrlhf_ext.methods.preference_data"
    kto = resolved.method == "kto"
    found = {
        "blending_datasets": f"{module}:{'list_files' if kto else 'read_table'}",
        "RewardDataset": f"{module}:{'ResponseDataset' if kto else 'PairDataset'}",
        "RewardModelTrainer" if resolved.program == "rm" else "DPOTrainer": trainer,
    }
    if resolved.preference.reference == "cached" and resolved.program == "dpo":
        found["Actor"] = "openrlhf_ext.methods.reference:policy_only"
    return found
