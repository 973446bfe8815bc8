"""Upstream's reward-model trainer that keeps our run directory. Runs in every rank's process."""

from __future__ import annotations

from openrlhf.trainer.rm_trainer import RewardModelTrainer

from openrlhf_ext.methods.preference_trainer import RecordedPreferenceTrainer


class RecordedRMTrainer(RecordedPreferenceTrainer, RewardModelTrainer):
    """Scores are raw, before any normalisation; upstream stores their held-out mean and deviation in the model's config."""

    columns = ("loss", "accuracy", "reward_chosen", "reward_rejected", "reward_margin")

    def see(self, args: tuple, result) -> None:
        chosen, rejected, *_ = args
        self.means.add("loss", result.detach().expand(len(chosen)))
        self.means.add("accuracy", chosen > rejected)
        self.means.add("reward_chosen", chosen)
        self.means.add("reward_rejected", rejected)
        self.means.add("reward_margin", chosen - rejected)
