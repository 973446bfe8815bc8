"""KTO inside OpenRLHF's DPO trainer: the second sequence of a row is its prompt with another problem's response. Runs in every rank's process."""

from __future__ import annotations

import torch

from openrlhf_ext.losses.kto import class_weights, kto_losses, reference_point
from openrlhf_ext.methods.dpo_trainer import StoredReference


class KTOTrainer(StoredReference):
    """The reference point is shared by all ranks: the mean over the micro-batches that they hold at the same moment."""

    columns = ("loss", "accuracy", "reward_good", "reward_bad", "logp_good", "logp_bad", "kl_point")

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.loss_fn = self._loss
        good, bad = class_weights(*self.train_dataloader.dataset.counts)
        wanted = self.args.kto
        self._weights = (
            good if wanted.desirable_weight is None else wanted.desirable_weight,
            bad if wanted.undesirable_weight is None else wanted.undesirable_weight,
        )

    def concatenated_forward(self, model, chosen_ids, c_mask, reject_ids, r_mask, prompt_id_lens):
        """Log-probs [B] of the responses and, without gradient, of the other problems' responses behind the same prompts."""
        self._good = torch.tensor([row.good for row in prompt_id_lens])
        if not model:
            return *self.stored(prompt_id_lens), [], None
        with torch.no_grad():
            other, _, _ = self._forward(model, reject_ids, r_mask, prompt_id_lens)
        own, mean, aux_loss = self._forward(model, chosen_ids, c_mask, prompt_id_lens)
        return own, other, aux_loss, -mean.mean()

    def _forward(self, model, ids, mask, prompt_lens) -> tuple[torch.Tensor, torch.Tensor, object]:
        log_probs, output = model(
            ids,
            attention_mask=mask,
            return_output=True,
            return_logprobs=True,
            ring_attn_group=self.strategy.ring_attn_group,
        )
        summed, mean = self._get_batch_logps(log_probs, mask, prompt_lens)
        return summed, mean, output.aux_loss if "aux_loss" in output else []

    def _loss(self, own, other, reference_own, reference_other) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(mean loss, by how much each reward is on its side of the reference point, zeros to compare it with)."""
        gap = (other - reference_other).detach().float()
        point = reference_point(self.strategy.all_gather(gap)).to(own.device)
        ratio, good = own - reference_own, self._good.to(own.device)
        losses = kto_losses(ratio, good, point, self.beta, *self._weights)
        side = self.beta * torch.where(good, ratio - point, point - ratio).detach()
        self._point = point
        return losses.mean(), side, torch.zeros_like(side)

    def see(self, args: tuple, result) -> None:
        own, _, reference_own, _ = args
        loss, side, _ = result
        good, reward = self._good.to(own.device), self.beta * (own - reference_own)
        self.means.add("loss", loss.detach().expand(len(own)))
        self.means.add("accuracy", side > 0)
        self.means.add("reward_good", reward[good])
        self.means.add("reward_bad", reward[~good])
        self.means.add("logp_good", own[good])
        self.means.add("logp_bad", own[~good])
        self.means.add("kl_point", self._point.reshape(1))
