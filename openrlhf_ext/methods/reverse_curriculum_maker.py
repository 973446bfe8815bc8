"""The experience maker of the reverse curriculum: an outcome at the last generated token, KL per token, GAE with a critic.

Upstream's maker does the same and always whitens; the paper whitens for mathematics and not for its other tasks, so here it is a
setting. The gold prefix of a start state is prompt: `action_mask` is 0 there, and nothing below lets it in.
"""

from __future__ import annotations

import torch
from openrlhf.models.utils import compute_reward
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ppo_utils.length_penalty import apply_length_penalties

from openrlhf_ext.losses.whiten import whiten


class ReverseCurriculumExperienceMaker(RemoteExperienceMaker):
    """r_t = outcome at the last action - beta (log pi_old - log pi_ref); advantages by GAE, whitened over the batch or as they are."""

    whiten_advantages: bool = True

    @torch.no_grad()
    def compute_advantages_and_returns(self, experiences: list[Experience]) -> list[Experience]:
        """Fill ``advantages`` and ``returns`` [B, A]; both are 0 where the policy produced nothing."""
        advantage = self.args.algo.advantage
        for experience in experiences:
            experience.rewards = experience.rewards.float()
        apply_length_penalties(experiences, self.args)
        for experience in experiences:
            is_action = experience.action_mask
            rewards = is_action * compute_reward(
                experience.rewards,
                self.kl_ctl.value,
                experience.kl,
                action_mask=is_action,
                reward_clip_range=self.args.reward.clip_range,
            )
            advantages, returns = self.get_advantages_and_returns(
                experience.values.float(), rewards, is_action, advantage.gamma, advantage.lambd
            )
            experience.advantages, experience.returns = advantages * is_action, returns * is_action
            experience.info["return"] = rewards.sum(dim=-1)
            experience.kl = None
        if self.whiten_advantages:
            masks = [experience.action_mask for experience in experiences]
            found = whiten([experience.advantages for experience in experiences], masks)
            for experience, advantages in zip(experiences, found, strict=True):
                experience.advantages = advantages
        return experiences
