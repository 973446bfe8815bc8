"""The Ray workers of OREO: a policy that keeps a frozen reference beside it, and a value network that begins at zero.

The exact regulariser compares two distributions over the whole vocabulary at every action. Between processes that would be logits, or the
hidden states of every action at every step; so the reference sits where the policy is. The sampled regulariser needs one number per
action: the reference is loaded once, its log-probs are kept on disk, and it goes again before the first update.

Imported late and only inside Ray or by `launch_offline.py`: it pulls in torch, DeepSpeed and OpenRLHF.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch

from openrlhf_ext.losses.oreo import Objective, policy_share, value_share
from openrlhf_ext.losses.vocabulary import sampled_kl
from openrlhf_ext.methods.oreo_forward import give_actions, head_of
from openrlhf_ext.rollout.collate import OfflineBatch
from openrlhf_ext.upstream.adapters import Adapter, save_merged
from openrlhf_ext.upstream.frozen import frozen_actor
from openrlhf_ext.upstream.value_head import zero_value_heads
from openrlhf_ext.workers import CriticWorker, PolicyWorker


@dataclass(frozen=True)
class Settings:
    """What the workers need to know of a request.

    ``reference``: path of the frozen model; ``chunk``: rows of logits at a time; ``value_adapter``: LoRA of the value network.
    """

    objective: Objective
    reference: str
    exact: bool = True
    chunk: int = 256
    value_adapter: Adapter | None = None


@dataclass(frozen=True)
class ReferenceWork:
    """One micro-batch for the reference. `pieces`: how often the output layer is called, the same for all ranks."""

    batch: OfflineBatch
    pieces: int


@dataclass(frozen=True)
class PolicyWork:
    """One micro-batch for the policy. `values`, `ref_log_probs`: [B, A]; the latter for the sampled regulariser only."""

    batch: OfflineBatch
    pieces: int
    values: torch.Tensor
    ref_log_probs: torch.Tensor | None = None


@dataclass(frozen=True)
class ValueWork:
    """One micro-batch for the value network. `log_ratios`: [B, A] of the policy before its update of this step."""

    batch: OfflineBatch
    log_ratios: torch.Tensor


class Terms(NamedTuple):
    """What the policy was at a micro-batch before its update; [B, A] float32 each, 0 where there is no action."""

    log_probs: torch.Tensor
    ref_log_probs: torch.Tensor
    kl: torch.Tensor


class OreoPolicyWorker(PolicyWorker):
    """One rank of the policy."""

    def init_model_from_pretrained(self, strategy, pretrain, max_steps, settings: Settings) -> None:
        super().init_model_from_pretrained(strategy, pretrain, max_steps, None)
        self.settings = settings
        self.reference = None
        give_actions(self.actor.model)
        if settings.exact:
            self._frozen()

    def reference_log_probs(self, work: Sequence[ReferenceWork]) -> list[torch.Tensor]:
        """Log-probs of the actions under the reference, [B, A] for each micro-batch; loads the reference where it is not there."""
        found = []
        with torch.no_grad():
            for item in work:
                batch = moved(item.batch, self._device)
                found.append(
                    self._frozen()(
                        batch.tokens,
                        batch.attention_mask,
                        actions=batch.actions,
                        is_action=batch.is_action,
                        chunk=self.settings.chunk,
                        pieces=item.pieces,
                    ).cpu()
                )
        return found

    def drop_reference(self) -> None:
        """Free the reference."""
        self.reference = None
        gc.collect()
        self.empty_cache()

    def learn(self, work: Sequence[PolicyWork], trajectories: int) -> tuple[list[Terms], dict[str, float]]:
        """One update on this rank's micro-batches of a step of ``trajectories``: (what the policy was at each, facts of the update)."""
        require_whole_step(self.strategy, len(work))
        self.actor.train()
        facts = {"lr": self.actor_scheduler.get_last_lr()[0]}
        terms = []
        for item in work:
            batch = moved(item.batch, self._device)
            found = self._terms(batch, item)
            share = policy_share(
                self.settings.objective,
                item.values.to(self._device),
                found.log_probs - found.ref_log_probs,
                found.kl,
                *(batch.rewards, batch.is_action, batch.starts_step, trajectories),
            )
            step(self.strategy, share.loss, self.actor, self.actor_optim, self.actor_scheduler, "actor")
            terms.append(Terms(*(tensor.detach().cpu() for tensor in found)))
        return terms, facts | gradient_norm(self.strategy, self.actor)

    def _terms(self, batch: OfflineBatch, item: PolicyWork) -> Terms:
        seen = {
            "actions": batch.actions,
            "is_action": batch.is_action,
            "chunk": self.settings.chunk,
            "pieces": item.pieces,
        }
        policy = self.actor.model
        if self.settings.exact:
            reference = self._frozen()
            with torch.no_grad():
                hidden = reference(batch.tokens, batch.attention_mask)
            log_probs, kl, ref_log_probs = policy(
                batch.tokens,
                batch.attention_mask,
                ref_hidden=hidden,
                ref_head=head_of(reference),
                **seen,
            )
            return Terms(log_probs, ref_log_probs, kl)
        if item.ref_log_probs is None:
            raise ValueError("the sampled regulariser needs the reference's log-probs with every micro-batch")
        log_probs = policy(batch.tokens, batch.attention_mask, **seen)
        ref_log_probs = item.ref_log_probs.to(self._device)
        return Terms(log_probs, ref_log_probs, sampled_kl(log_probs - ref_log_probs))

    def _frozen(self):
        """The engine of the reference, loaded where it is not there."""
        if self.reference is None:
            self.reference = frozen_actor(self.strategy, self.settings.reference).model
            give_actions(self.reference)
        return self.reference

    @property
    def _device(self) -> torch.device:
        return self.actor.model.device


class OreoValueWorker(CriticWorker):
    """One rank of the value network."""

    def init_model_from_pretrained(self, strategy, pretrain, max_steps, settings: Settings) -> None:
        """Upstream's, with a tokenizer to save beside it and a head that gives 0 for every text."""
        strategy.args.critic.save_value_network = True
        with zero_value_heads(settings.value_adapter):
            super().init_model_from_pretrained(strategy, pretrain, max_steps)
        self.settings = settings

    def values(self, batches: Sequence[OfflineBatch]) -> list[torch.Tensor]:
        """V of every column, [B, A] float32 for each micro-batch."""
        self.critic.eval()
        with torch.no_grad():
            return [self._values(moved(batch, self._device)).float().cpu() for batch in batches]

    def learn(self, work: Sequence[ValueWork], trajectories: int) -> dict[str, float]:
        """One update on this rank's micro-batches of a step of ``trajectories``; facts of the update."""
        require_whole_step(self.strategy, len(work))
        self.critic.train()
        facts = {"lr": self.critic_scheduler.get_last_lr()[0]}
        for item in work:
            batch = moved(item.batch, self._device)
            loss = value_share(
                self.settings.objective,
                self._values(batch),
                item.log_ratios.to(self._device),
                *(batch.rewards, batch.is_action, batch.starts_step, trajectories),
            )
            step(self.strategy, loss, self.critic, self.critic_optim, self.critic_scheduler, "critic")
        return facts | gradient_norm(self.strategy, self.critic)

    def save_hf(self, directory: str) -> None:
        """Write the value network as a Hugging Face model with its head and tokenizer (every rank calls it; rank 0 writes)."""
        adapter = self.settings.value_adapter
        if adapter is not None:
            save_merged(self.strategy, self.critic, self.tokenizer, directory, adapter)
            return
        self.strategy.save_model(self.critic, self.tokenizer, directory)

    def _values(self, batch: OfflineBatch) -> torch.Tensor:
        # Upstream's critic multiplies by the mask it is given; which columns count is the loss's business.
        return self.critic(batch.tokens, torch.ones_like(batch.actions), batch.attention_mask)

    @property
    def _device(self) -> torch.device:
        return self.critic.device


def moved(batch: OfflineBatch, device: torch.device) -> OfflineBatch:
    return OfflineBatch(*(getattr(batch, field.name).to(device) for field in fields(batch)))


def step(strategy, share: torch.Tensor, model, optimizer, scheduler, name: str) -> None:
    """Add the gradient of a share of the step's loss; the last micro-batch of a step also updates.

    DeepSpeed divides every loss by the number of accumulated micro-batches and averages gradients over the ranks; shares add up.
    """
    scale = strategy.accumulated_gradient * strategy.world_size
    strategy.backward(scale * share, model, optimizer)
    strategy.optimizer_step(optimizer, model, scheduler, name=name)


def gradient_norm(strategy, model) -> dict[str, float]:
    """Before clipping; nothing without ZeRO, where DeepSpeed keeps none."""
    return {"grad_norm": strategy.get_grad_norm(model)} if strategy.args.ds.zero_stage > 0 else {}


def require_whole_step(strategy, micro_batches: int) -> None:
    if micro_batches != strategy.accumulated_gradient:
        raise ValueError(
            f"{micro_batches} micro-batches, but an update accumulates {strategy.accumulated_gradient}: some would run on into the next"
        )
