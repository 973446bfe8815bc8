"""What OpenRLHF's trainers of preferences (DPO, RM) are given here: our run directory, whole checkpoints, means over the whole update.

A mixin in front of upstream's class. Upstream's loop, losses and optimiser steps stay; it logs the last micro-batch, this logs them all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from openrlhf_ext.methods.program_checkpoint import save_program_checkpoint
from openrlhf_ext.record.run_dir import RunDir

if TYPE_CHECKING:
    from openrlhf.trainer.dpo_trainer import DPOTrainer as Upstream
else:
    Upstream = object


class Means:
    """Sums and counts of named values, from which means over micro-batches and ranks are made."""

    def __init__(self, names: Sequence[str]) -> None:
        self._kept = {name: [0.0, 0] for name in names}

    def add(self, name: str, values: torch.Tensor) -> None:
        """Count every element of `values`."""
        self._kept[name][0] += values.detach().float().sum().item()
        self._kept[name][1] += values.numel()

    def take(self, strategy) -> dict[str, float]:
        """The means over all ranks (every rank calls it), and start again; a name without values is left out."""
        flat = [number for pair in self._kept.values() for number in pair]
        summed = strategy.all_reduce(torch.tensor(flat, dtype=torch.float64), op="sum").tolist()
        self._kept = {name: [0.0, 0] for name in self._kept}
        pairs = zip(self._kept, summed[::2], summed[1::2], strict=True)
        return {name: total / count for name, total, count in pairs if count}


class Observed:
    """A loss whose arguments and result somebody else is shown."""

    def __init__(self, loss: Callable, see: Callable[[tuple, object], None]) -> None:
        self._loss, self._see = loss, see

    def __call__(self, *args):
        result = self._loss(*args)
        self._see(args, result)
        return result


class RecordedPreferenceTrainer(Upstream):
    """Mixin: `columns` are the values of a batch that a subclass adds in `see`; metrics rows hold their means."""

    columns: tuple[str, ...] = ()
    loss_fn: Callable

    def see(self, args: tuple, result) -> None:
        """Add the values of one micro-batch to `self.means`, given the loss's arguments and its result."""
        raise NotImplementedError

    def before_training(self, args, fresh: bool) -> None:
        """Hook: everything is loaded; `fresh` = no update has been made."""

    @property
    def engine(self):
        """DeepSpeed's engine (DPO's model is an `Actor` around it)."""
        return self.model if hasattr(self.model, "save_checkpoint") else self.model.model

    def fit(self, args, consumed_samples=0, num_update_steps_per_epoch=None):
        whole_updates(self.train_dataloader.sampler, args.train.batch_size)
        self._run = RunDir.open(args.record.run_dir) if self.strategy.is_rank_0() else None
        self._last, self._tokens = time.perf_counter(), 0
        self._held_out: dict[str, float] = {}
        self._training, self._evaluating = Means(self.columns), Means(self.columns)
        self.means = self._training
        self.loss_fn = Observed(self.loss_fn, self.see)
        if self._run is not None and args.record.resume:
            self._run.rewind(consumed_samples // args.train.batch_size)
        self._end = self.epochs * (num_update_steps_per_epoch or 0)
        self._has_held_out = bool(args.eval.dataset) and len(self.eval_dataloader) > 0
        self.before_training(args, consumed_samples == 0)
        if consumed_samples == 0 and self._has_held_out:
            self.evaluate(self.eval_dataloader, 0)
            if self._run is not None:
                self._run.metrics(0, self._held_out)
            self._held_out = {}
        self.model.register_forward_pre_hook(self._count_tokens, with_kwargs=True)
        return super().fit(args, consumed_samples, num_update_steps_per_epoch)

    def save_logs_and_checkpoints(self, args, global_step, step_bar, logs_dict=None, client_states=None):
        logs = logs_dict or {}
        means = self._training.take(self.strategy)
        tokens, self._tokens = round(self.strategy.all_reduce(float(self._tokens), op="sum")), 0
        row = {f"train/{name}": value for name, value in means.items()} | {"train/lr": logs["lr"]}
        if args.ds.zero_stage > 0:  # without ZeRO, DeepSpeed clips but keeps no norm: upstream would report 0
            row["train/grad_norm"] = logs["grad_norm"]
        due = global_step % args.eval.steps == 0 or global_step == self._end
        if due and self.eval_dataloader is not None and len(self.eval_dataloader) > 0:
            self.evaluate(self.eval_dataloader, global_step)
        if self._run is not None:
            now = time.perf_counter()
            row |= self._held_out | {"time/step": now - self._last}
            self._last = now
            self._run.add_cost(train_tokens=tokens)
            self._run.metrics(global_step, row)
            if global_step % args.logger.logging_steps == 0:
                self._log(global_step, row)
        self._held_out = {}
        if global_step % args.ckpt.save_steps == 0 and not self.disable_ds_ckpt:
            save_program_checkpoint(
                self.engine, Path(args.ckpt.path), global_step, client_states or {}, args.ckpt.max_num
            )

    def evaluate(self, eval_dataloader, steps=0):
        """Upstream's, whose batches are seen by `see`; the means become `eval/` columns of the step's row."""
        self.means = self._evaluating
        super().evaluate(eval_dataloader, steps)
        self.means = self._training
        found = self._evaluating.take(self.strategy)
        if self._has_held_out:
            self._held_out = {f"eval/{name}": value for name, value in found.items()}

    def _log(self, step: int, row: dict[str, float]) -> None:
        if self._wandb is not None:
            self._wandb.log({**row, "train/global_step": step})
        elif self._tensorboard is not None:
            for name, value in row.items():
                self._tensorboard.add_scalar(name, value, step)

    def _count_tokens(self, _module, _args, kwargs) -> None:
        if self.model.training and torch.is_grad_enabled():
            self._tokens += int(kwargs["attention_mask"].sum())


def whole_updates(sampler, batch: int) -> None:
    """Let an epoch end with an update: what is left over of the shuffled rows waits for another epoch.

    Upstream lets a begun update run on into the next epoch, so that its count of epochs drifts and a resume there starts at another row.
    """
    usable = len(sampler.dataset) // batch * batch
    sampler.total_size, sampler.num_samples = usable, usable // sampler.num_replicas
