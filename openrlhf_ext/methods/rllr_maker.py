"""The experience maker of RLLR: scores of the reward models in the place of the verifier's reward, then GAE as everywhere.

The verifier has graded every answer already (`samples.rewards`): that is kept for the record, and only the arm `exact-match` learns from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_ext.losses.rllr import next_kl_coefficient, require_finite
from openrlhf_ext.methods.reverse_curriculum_maker import ReverseCurriculumExperienceMaker

if TYPE_CHECKING:
    from openrlhf_ext.methods.rllr import LabelSensitive

QUANTILES = (0.1, 0.5, 0.9)


class RllrExperienceMaker(ReverseCurriculumExperienceMaker):
    """Upstream's maker with the arm's reward; every model sees the same token ids."""

    method: LabelSensitive

    @torch.no_grad()
    def make_experience(self, samples_list: list[Experience]) -> list[Experience]:
        """Fill log-probs, values and KL as upstream does, and ``rewards`` [B] by the arm's models, normalised over the whole rollout."""
        refs = {
            role: self._dispatch_forward(
                group,
                self.args.train.colocate_all,
                sequences=[s.sequences for s in samples_list],
                attention_mask=[s.attention_mask for s in samples_list],
                pad_sequence=[True] * len(samples_list),
            )
            for role, group in self.method.groups.items()
        }
        experiences = super().make_experience(samples_list)
        copies = self.args.ds.ring_attn_size * self.args.ds.tensor_parallel_size
        order = torch.tensor([i for experience in experiences for i in experience.index])
        scores = {role: _in_order(self._flatten_results(ref, copies), order) for role, ref in refs.items()}
        for role, found in scores.items():
            require_finite(found, f"{role} reward model {self.method.models[role]}")
        rewards = self._rewards(experiences, order, scores)
        for experience in experiences:
            experience.rewards = rewards[torch.tensor(experience.index)]
            experience.info["reward"] = experience.rewards.clone()
        return experiences

    def _rewards(
        self, experiences: list[Experience], order: torch.Tensor, scores: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """The rewards of the rollout [N] in its order; what the answers scored is recorded."""
        method = self.method
        if scores:
            raw = method.combination(scores.get("label"), scores.get("rationale"))
        else:
            raw = _in_order([experience.rewards for experience in experiences], order)
        formless = torch.tensor(method.formless(), dtype=raw.dtype)
        raw = raw - method.options.format_penalty * formless
        rewards = raw
        if method.moments is not None:
            method.moments.update(raw)
            rewards = method.moments.normalise(raw)
        columns = {f"{role}_score": found.tolist() for role, found in scores.items()}
        correct = _in_order([experience.scores.float() for experience in experiences], order)
        columns["label_accuracy"] = correct.tolist()
        method.record(
            columns,
            raw.tolist(),
            self._summary(scores)
            | {"reward_normalised_mean": rewards.mean().item(), "formless_share": formless.mean().item()},
        )
        return rewards

    def _summary(self, scores: dict[str, torch.Tensor]) -> dict[str, float]:
        """Quantiles of the scores, and the share of label scores above tau: what tau does to them."""
        found: dict[str, float] = {}
        for role, values in scores.items():
            levels = torch.quantile(values.double(), torch.tensor(QUANTILES, dtype=torch.float64))
            found |= {f"{role}_score_p{round(100 * q)}": v for q, v in zip(QUANTILES, levels.tolist(), strict=True)}
        tau = self.method.combination.tau
        if tau is not None and "label" in scores:
            found |= {"label_capped_share": (scores["label"] > tau).float().mean().item(), "tau": tau}
        return found

    @torch.no_grad()
    def compute_advantages_and_returns(self, experiences: list[Experience]) -> list[Experience]:
        """GAE with the present KL coefficient; the coefficient of the next step follows from this batch's KL per answer."""
        nats = torch.cat([(experience.kl * experience.action_mask).sum(dim=-1) for experience in experiences])
        used, options = self.kl_ctl.value, self.method.options
        found = super().compute_advantages_and_returns(experiences)
        if options.kl_target is not None:
            self.kl_ctl.value = next_kl_coefficient(
                used, nats.mean().item(), target=options.kl_target, horizon=options.kl_horizon, samples=len(nats)
            )
        self.method.note({"train/kl_answer": nats.mean().item(), "train/kl_coefficient": used})
        return found


def _in_order(parts: list[torch.Tensor], order: torch.Tensor) -> torch.Tensor:
    """One number per answer, in rollout order, of what the micro-batches hold."""
    joined = torch.cat([part.float().reshape(-1) for part in parts])
    found = torch.empty_like(joined)
    found[order] = joined
    return found
