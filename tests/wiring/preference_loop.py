"""OpenRLHF's preference trainers with our mixin, on a model of a few thousand weights and one process: DeepSpeed is played by plain AdamW."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from openrlhf.models import Actor, get_llm_for_sequence_regression
from openrlhf.utils.distributed_sampler import DistributedSampler
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from openrlhf_ext.config.schema import Kto
from openrlhf_ext.data.pair_options import PairOptions
from openrlhf_ext.data.pairs import Columns
from openrlhf_ext.methods.preference_data import FileList, PairDataset, ResponseDataset, read_table
from openrlhf_ext.methods.reference import NoReference
from openrlhf_ext.record.rows import read_metrics
from openrlhf_ext.record.run_dir import RunDir


class OneProcess:
    """What the trainers ask of OpenRLHF's strategy, where there is one rank and no DeepSpeed."""

    world_size, ring_attn_group = 1, None

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.accumulated_gradient = args.train.batch_size // args.train.micro_batch_size
        self._waiting = 0

    def print(self, *words: object) -> None: ...

    def is_rank_0(self) -> bool:
        return True

    def get_rank(self) -> int:
        return 0

    def all_reduce(self, data: Any, op: str = "mean") -> Any:
        return data

    def all_gather(self, data: Any) -> Any:
        return data

    def backward(self, loss: torch.Tensor, model: object, optimizer: object) -> None:
        (loss / self.accumulated_gradient).backward()

    def optimizer_step(self, optimizer: Any, model: object, scheduler: Any) -> None:
        self._waiting += 1
        if self._waiting == self.accumulated_gradient:
            self._waiting = 0
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()

    def get_grad_norm(self, model: object) -> float:
        return 1.0

    def _unwrap_model(self, model: Any) -> Any:
        return model


def arguments(run: Path, **changes: object) -> argparse.Namespace:
    """OpenRLHF's arguments and ours, nested as `train` gets them; ``changes`` are keys with `__` for dots."""
    values: dict[str, object] = {
        "train.batch_size": 4,
        "train.micro_batch_size": 2,
        "train.seed": 3,
        "eval.steps": -1,
        "eval.dataset": None,
        "ckpt.save_steps": -1,
        "ckpt.path": str(run / "checkpoints"),
        "ckpt.max_num": 1,
        "logger.logging_steps": 1,
        "logger.wandb.key": None,
        "logger.tensorboard_dir": None,
        "model.label_smoothing": 0.0,
        "model.ipo_enable": False,
        "model.aux_loss_coef": 0.0,
        "model.nll_loss_coef": 0.0,
        "model.margin_loss_enable": False,
        "model.compute_fp32_loss_enable": False,
        "ds.packing_samples": False,
        "ds.zero_stage": 0,
        "ds.param_dtype": "float32",
        "record.run_dir": str(run),
        "record.resume": False,
        "reference.cached": False,
        "reference.file": None,
    }
    root = argparse.Namespace(pairs=PairOptions(Columns(), max_length=64), kto=Kto())
    for key, value in (values | {key.replace("__", "."): value for key, value in changes.items()}).items():
        *path, leaf = key.split(".")
        node = root
        for part in path:
            node = vars(node).setdefault(part, argparse.Namespace())
        setattr(node, leaf, value)
    return root


def written(path: Path, rows: Sequence[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def actor(model: Path) -> Actor:
    return Actor(str(model), attn_implementation="sdpa", param_dtype="float32")


def scorer(model: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    return get_llm_for_sequence_regression(
        str(model), "reward", attn_implementation="sdpa", param_dtype="float32", init_value_head=True
    )


def loader(dataset: Any, args: argparse.Namespace, *, train: bool) -> DataLoader:
    sampler = DistributedSampler(dataset, 1, 0, shuffle=train, seed=args.train.seed, drop_last=train)
    return DataLoader(
        dataset, args.train.micro_batch_size, sampler=sampler, drop_last=train, collate_fn=dataset.collate_fn
    )


@contextmanager
def run_directory(path: Path) -> Iterator[RunDir]:
    """The driver's side of a run: it holds the lock while the trainer appends."""
    with RunDir.create(path, "x: 1\n", {}) as run:
        yield run


def train(
    kind: type,
    model: Path,
    run: Path,
    data: str,
    *,
    held_out: str | None = None,
    epochs: int = 1,
    lr: float = 1e-3,
    consumed: int = 0,
    policy: Any = None,
    **changes: object,
) -> tuple[Any, list[dict]]:
    """The trainer after its run, and the metrics rows."""
    args = arguments(run, **{"model__model_name_or_path": str(model), "eval__dataset": held_out} | changes)
    strategy = OneProcess(args)
    tokenizer = AutoTokenizer.from_pretrained(model)
    is_rm = "Reward" in kind.__mro__[2].__name__
    is_kto = kind.__name__.startswith("KTO")

    def dataset(names: str) -> Any:
        if is_kto:
            return ResponseDataset(FileList(names), tokenizer, 64, strategy)
        return PairDataset(read_table(names, strategy=strategy), tokenizer, 64, strategy, is_dpo=not is_rm)

    rows = dataset(data)
    policy = policy or (scorer(model) if is_rm else actor(model))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=lr)
    options: dict[str, Any] = {
        "model": policy,
        "strategy": strategy,
        "optim": optimizer,
        "tokenizer": tokenizer,
        "train_dataloader": loader(rows, args, train=True),
        "eval_dataloader": loader(dataset(held_out), args, train=False) if held_out else None,
        "scheduler": torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        "max_epochs": epochs,
    }
    if not is_rm:
        options |= {"beta": 0.1, "ref_model": NoReference() if args.reference.cached else actor(model)}
    trainer = kind(**options)
    with run_directory(run):
        trainer.fit(args, consumed, len(rows) // args.train.batch_size)
    return trainer, read_metrics(run / "metrics.jsonl")
