"""The experience maker of GRPO: rewards of whole groups become one advantage per sample, constant over its tokens."""

from __future__ import annotations

import torch
from openrlhf.models.utils import compute_reward
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ppo_utils.length_penalty import apply_length_penalties

from openrlhf_ext.losses.normalise import RunningNormaliser, group_advantages


class GrpoExperienceMaker(RemoteExperienceMaker):
    """Upstream's maker with the report's normalisation in place of its own ``group_norm``."""

    normaliser: RunningNormaliser | None = None
    advantage_eps: float = 1e-4

    @torch.no_grad()
    def compute_advantages_and_returns(self, experiences: list[Experience]) -> list[Experience]:
        """Fill ``advantages`` and ``returns`` [B, A] of every experience; rewards are read in rollout order, group by group."""
        for experience in experiences:
            experience.rewards = experience.rewards.float()
        apply_length_penalties(experiences, self.args)

        order = torch.tensor([i for experience in experiences for i in experience.index])
        rewards = torch.empty(len(order))
        rewards[order] = torch.cat([experience.rewards for experience in experiences])
        if self.args.reward.clip_range:
            rewards = rewards.clamp(*self.args.reward.clip_range)
        groups = rewards.reshape(-1, self.args.rollout.n_samples_per_prompt)
        advantages = self.normaliser.update(groups) if self.normaliser else group_advantages(groups, self.advantage_eps)
        spread = groups.std(dim=-1, keepdim=True).expand_as(groups)

        for experience in experiences:
            index = torch.tensor(experience.index)
            # With KL in the reward (algo.kl.use_loss off) this subtracts its sum over the later tokens; with KL as a loss kl is 0.
            token_rewards = compute_reward(
                advantages.reshape(-1)[index],
                self.kl_ctl.value,
                experience.kl,
                action_mask=experience.action_mask,
                reward_clip_range=None,
            )
            experience.returns = self.get_cumulative_returns(token_rewards, experience.action_mask, gamma=1.0)
            experience.advantages = experience.returns * experience.action_mask
            experience.info["group_reward_std"] = spread.reshape(-1)[index]
            experience.info["advantage"] = advantages.reshape(-1)[index]
            experience.kl = None
        return experiences
