"""DPO without a reference model in memory: the start model's log-probs, computed once, kept on disk with a fingerprint."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from openrlhf.models import Actor

from openrlhf_ext.rollout.reference_cache import Fingerprint, model_fingerprint, read_cache, write_cache

FILE = "reference.safetensors"


class NoReference:
    """Stands where OpenRLHF's DPO program keeps its reference. False, so that DeepSpeed is not asked to prepare it."""

    model = None

    def __bool__(self) -> bool:
        return False

    def eval(self) -> NoReference:
        return self


def policy_only(name: str, **options) -> Actor | NoReference:
    """In the place of `Actor`: the policy as ever; for the reference, which alone is built without LoRA's options, nothing."""
    return Actor(name, **options) if "lora_rank" in options else NoReference()


def reference_log_probs(trainer, args, fresh: bool) -> torch.Tensor:
    """Log-probs of both sequences of every row, training rows first, then held-out ones: [N, 2]. Every rank calls it.

    Read from the cache, or computed by the policy before its first update, which then is the reference.

    Raises:
        StaleCache: the cache was made by another model, or on other data.
        ValueError: a resumed run without a cache: its policy is no longer the reference.
    """
    sets = [trainer.train_dataloader.dataset]
    if trainer.eval_dataloader is not None:
        sets.append(trainer.eval_dataloader.dataset)
    file = Path(args.reference.file or Path(args.record.run_dir) / FILE)
    count = sum(map(len, sets))
    table = torch.zeros(count, 2, dtype=torch.float64)
    mark = fingerprint(args, sets) if trainer.strategy.is_rank_0() else None
    kept = read_cache(file, mark) if mark else None
    if kept:
        table = torch.stack(kept).double()
    if trainer.strategy.all_reduce(float(bool(kept)), op="sum"):
        return trainer.strategy.all_reduce(table, op="sum").float()
    if not fresh:
        raise ValueError(f"{file} is gone, and a policy that has been trained is not the reference: start the run anew")
    offset = 0
    for rows in sets:
        _fill(trainer, rows, table[offset : offset + len(rows)], args.train.micro_batch_size)
        offset += len(rows)
    table = trainer.strategy.all_reduce(table, op="sum").float()
    if mark:
        write_cache(file, mark, list(table))
    return table


def _fill(trainer, rows, table: torch.Tensor, micro: int) -> None:
    """This rank's share of the rows; all ranks make the same number of forward passes, as ZeRO-3 needs."""
    strategy, device = trainer.strategy, next(trainer.model.parameters()).device
    world, rank = strategy.world_size, strategy.get_rank()
    trainer.model.eval()
    for start in range(0, len(rows), micro * world):
        mine = [i for i in range(start + rank * micro, start + (rank + 1) * micro) if i < len(rows)]
        *tensors, lengths = rows.collate_fn([rows[i] for i in mine or [0]])
        tensors = [tensor.to(device) for tensor in tensors]
        with torch.no_grad():
            found = trainer.concatenated_forward(trainer.model, *tensors, lengths)
        if mine:
            table[mine] = torch.stack(found[:2], dim=1).double().cpu()


def fingerprint(args, sets) -> Fingerprint:
    """What the log-probs depend on: the model's files, every sequence in order, the precision."""
    folder = args.model.model_name_or_path
    if not Path(folder).is_dir():
        from huggingface_hub import snapshot_download

        folder = snapshot_download(folder)
    digest = hashlib.sha256()
    for rows in sets:
        for i in range(len(rows)):
            chosen, _, rejected, _, length = rows[i]
            digest.update(f"{chosen.tolist()}{rejected.tolist()}{int(length)}".encode())
    return Fingerprint(model_fingerprint(folder), digest.hexdigest(), args.ds.param_dtype)
