"""The Ray workers of a rollout method: upstream's policy, critic and reference actors plus what a run of ours needs from them.

Imported late and only inside Ray or by `launch.py`: it pulls in torch, DeepSpeed and OpenRLHF.
"""

from __future__ import annotations

import functools
import random
from pathlib import Path

import numpy as np
import torch
from openrlhf.models.loss import aggregate_loss
from openrlhf.trainer.ray import ppo_actor
from openrlhf.trainer.ray.launcher import ReferenceModelActor
from openrlhf.trainer.ray.ppo_actor import PolicyModelActor
from openrlhf.trainer.ray.ppo_critic import CriticModelActor

from openrlhf_ext.upstream.actors import undecorated
from openrlhf_ext.upstream.sync import verify_sync

POLICY_TAG, CRITIC_TAG = "policy", "critic"


class PolicyWorker(undecorated(PolicyModelActor)):  # type: ignore[misc]
    """One rank of the policy: trains, sends its weights to the engines, saves and restores its whole state."""

    def init_model_from_pretrained(self, strategy, *args, **kwargs) -> None:
        """Upstream's, with every loss term averaged as `actor.loss_agg_mode` says."""
        reduce_all_terms_alike(strategy.args.actor.loss_agg_mode)
        super().init_model_from_pretrained(strategy, *args, **kwargs)

    def set_temperature(self, temperature: float) -> None:
        """Log-probs are taken at the temperature that the rollout sampled with."""
        self.actor.temperature = temperature

    def drop_experience(self) -> None:
        """Forget the experience of a step that only the critic learns from."""
        self.trainer.replay_buffer.clear()

    def sync_engines(self) -> int:
        """Send the weights to the engines and compare what arrived, tensor by tensor; the number of tensors. WeightSyncError if they differ."""
        self.broadcast_to_vllm()
        return verify_sync(self.trainer)

    def save_state(self, directory: str, client_state: dict) -> None:
        """Write model, optimizer, scheduler and this rank's random state below ``directory`` (every rank calls it)."""
        _save_state(self.actor.model, directory, POLICY_TAG, self._rank, client_state)

    def load_state(self, directory: str) -> dict:
        """Restore what :meth:`save_state` wrote; returns its ``client_state``."""
        return _load_state(self.strategy, self.actor.model, directory, POLICY_TAG, self._rank)

    def save_hf(self, directory: str) -> None:
        """Write the policy as a Hugging Face model with its tokenizer (every rank calls it; rank 0 writes)."""
        self.strategy.save_model(self.actor, self.tokenizer, directory)


class CriticWorker(undecorated(CriticModelActor)):  # type: ignore[misc]
    """One rank of the critic: upstream's value model, its trunk loaded from the policy's start model and its head fresh."""

    def save_state(self, directory: str, client_state: dict) -> None:
        """As :meth:`PolicyWorker.save_state`."""
        _save_state(self.critic, directory, CRITIC_TAG, self._rank, client_state)

    def load_state(self, directory: str) -> dict:
        """As :meth:`PolicyWorker.load_state`."""
        return _load_state(self.strategy, self.critic, directory, CRITIC_TAG, self._rank)


class ReferenceWorker(undecorated(ReferenceModelActor)):  # type: ignore[misc]
    """One rank of the frozen reference."""

    def set_temperature(self, temperature: float) -> None:
        self.model.temperature = temperature


def reduce_all_terms_alike(loss_agg_mode: str) -> None:
    """Let KL and entropy be averaged like the policy loss: over sequences, or over tokens.

    Upstream (0.11.2, ppo_actor.py:331,347) averages these two over tokens whatever the mode; under `seq-mean-token-mean` a long
    sample would weigh more in the KL term than in the loss that it balances.
    """
    by_token = loss_agg_mode == "token-mean"
    ppo_actor.aggregate_loss = functools.partial(aggregate_loss, token_level_loss=by_token)


def _save_state(model, directory: str, tag: str, rank: int, client_state: dict) -> None:
    model.save_checkpoint(directory, tag=tag, client_state=client_state, save_latest=False)
    torch.save(_random_state(), Path(directory) / tag / f"random_rank{rank}.pt")


def _load_state(strategy, model, directory: str, tag: str, rank: int) -> dict:
    loaded, client_state = strategy.load_ckpt(model, directory, tag=tag)
    if loaded is None:
        raise FileNotFoundError(f"no {tag} state in {directory}: the checkpoint is incomplete")
    _restore_random_state(Path(directory) / tag / f"random_rank{rank}.pt")
    return client_state


def _random_state() -> dict:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_state(path: Path) -> None:
    if not path.exists():  # a resume on another number of ranks has no state for the new ranks
        return
    state = torch.load(path, weights_only=False)
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
