"""Upstream's DPO trainer that keeps our run directory, and can do without a reference model. Runs in every rank's process."""

from __future__ import annotations

import torch
from openrlhf.trainer.dpo_trainer import DPOTrainer

from openrlhf_ext.methods.preference_trainer import RecordedPreferenceTrainer
from openrlhf_ext.methods.reference import NoReference, reference_log_probs


class StoredReference(RecordedPreferenceTrainer, DPOTrainer):
    """Where the reference is no model, its log-probs come from a table of both data sets, made before the first update."""

    def before_training(self, args, fresh: bool) -> None:
        if isinstance(self.ref_model, NoReference):
            self._table = reference_log_probs(self, args, fresh)

    def evaluate(self, eval_dataloader, steps=0):
        self._offset = len(self.train_dataloader.dataset)
        super().evaluate(eval_dataloader, steps)
        self._offset = 0

    _offset = 0

    def stored(self, rows) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs of the two sequences of each row, [B] each."""
        found = self._table[torch.tensor([row.row + self._offset for row in rows])]
        found = found.to(next(self.model.parameters()).device)
        return found[:, 0], found[:, 1]

    def concatenated_forward(self, model, chosen_ids, c_mask, reject_ids, r_mask, prompt_id_lens):
        if isinstance(model, NoReference):
            return *self.stored(prompt_id_lens), [], None
        return super().concatenated_forward(model, chosen_ids, c_mask, reject_ids, r_mask, prompt_id_lens)


class RecordedDPOTrainer(StoredReference):
    """Rewards are beta times the log-ratio to the reference, summed over the answer."""

    columns = ("loss", "accuracy", "reward_chosen", "reward_rejected", "reward_margin", "logp_chosen", "logp_rejected")

    def see(self, args: tuple, result) -> None:
        policy_chosen, policy_rejected, *_ = args
        loss, chosen, rejected = result
        self.means.add("loss", loss.detach().expand(len(chosen)))
        self.means.add("accuracy", chosen > rejected)
        self.means.add("reward_chosen", chosen)
        self.means.add("reward_rejected", rejected)
        self.means.add("reward_margin", chosen - rejected)
        self.means.add("logp_chosen", policy_chosen)
        self.means.add("logp_rejected", policy_rejected)
