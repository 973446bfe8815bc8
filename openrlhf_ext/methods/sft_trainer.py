"""Upstream's SFT trainer that also keeps our run directory. Runs inside the program's process on every rank."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from openrlhf.trainer.sft_trainer import SFTTrainer

from openrlhf_ext.methods.program_checkpoint import save_program_checkpoint
from openrlhf_ext.record.run_dir import RunDir


class RecordedSFTTrainer(SFTTrainer):
    """One metrics row per update (rank 0): loss, learning rate, held-out loss, tokens trained on, seconds. Checkpoints are whole or absent."""

    disable_ds_ckpt: bool

    def fit(self, args, consumed_samples=0, num_update_steps_per_epoch=None):
        self._saves_state, self.disable_ds_ckpt = not self.disable_ds_ckpt, True  # upstream would write it in place
        self._run = RunDir.open(args.record.run_dir) if self.strategy.is_rank_0() else None
        self._last = time.perf_counter()
        self._tokens = 0
        self._held_out_loss: float | None = None
        if self._run is not None and args.record.resume:
            self._run.rewind(consumed_samples // args.train.batch_size)
        self.model.register_forward_pre_hook(self._count_tokens, with_kwargs=True)
        return super().fit(args, consumed_samples, num_update_steps_per_epoch)

    def save_logs_and_checkpoints(self, args, global_step, step_bar, logs_dict=None, client_states=None):
        super().save_logs_and_checkpoints(args, global_step, step_bar, logs_dict, client_states)
        self._record(args, global_step, logs_dict or {})
        if self._saves_state and global_step % args.ckpt.save_steps == 0:
            save_program_checkpoint(
                self.model.model, Path(args.ckpt.path), global_step, client_states or {}, args.ckpt.max_num
            )

    def _record(self, args, global_step, logs) -> None:
        """The metrics row of an update. Every rank calls it."""
        # Upstream's `loss_mean` is the share of this rank's rows, scaled so that the mean over ranks is the loss of the batch.
        means = self.strategy.all_reduce({"loss": logs["loss_mean"], "tokens": float(self._tokens)})
        tokens, self._tokens = round(means["tokens"] * self.strategy.world_size), 0
        if self._run is None:
            return
        now = time.perf_counter()
        row = {
            "train/loss": means["loss"],
            "train/lr": logs["lr"],
            "time/step": now - self._last,
        }
        if args.ds.zero_stage > 0:  # without ZeRO, DeepSpeed clips but keeps no norm: upstream would report 0
            row["train/grad_norm"] = logs["grad_norm"]
        if self._held_out_loss is not None:
            row["eval/loss"], self._held_out_loss = self._held_out_loss, None
        self._run.add_cost(train_tokens=tokens)
        self._last = now
        self._run.metrics(global_step, row)

    def evaluate(self, eval_dataloader, steps=0):
        """Upstream's evaluation shows its mean in a progress bar only; this keeps it (mean over batches, all ranks)."""
        self.model.eval()
        losses = []
        with torch.no_grad():
            device = next(self.model.parameters()).device
            for inputs, attention_masks, loss_masks in eval_dataloader:
                log_probs = self.model(
                    inputs.to(device).squeeze(1),
                    attention_mask=attention_masks.to(device).squeeze(1),
                    return_logprobs=True,
                    ring_attn_group=self.strategy.ring_attn_group,
                )
                losses.append(self.loss_fn(log_probs, loss_masks.to(device).squeeze(1)[:, :-1]).item())
        self.model.train()
        mean = self.strategy.all_reduce({"loss": sum(losses) / len(losses)})["loss"]
        if self.strategy.is_rank_0():
            self._held_out_loss = mean
            if self._tensorboard is not None:
                self._tensorboard.add_scalar("eval/gpt_loss", mean, steps)
            elif self._wandb is not None:
                self._wandb.log({"eval/gpt_loss": mean, "eval/global_step": steps})

    def _count_tokens(self, _module, _args, kwargs) -> None:
        if self.model.training:
            self._tokens += int(kwargs["attention_mask"].sum())
