"""The trainer that all rollout methods share: upstream's PPO steps inside a loop of ours.

Ours are the prompt stream, kept rollouts, metrics, held-out evaluation, whole checkpoints with exact resume, deadlines, the check of
every weight sync and the rollout/training log-prob gap. A method brings its experience maker (`methods/*_maker.py`) and its
`RolloutMethod` (`methods/base.py`): the order of prompts, what is remembered from step to step, columns of its own.

Imported late: it pulls in torch, Ray, vLLM and OpenRLHF.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ray
import torch
from openrlhf.trainer.ppo_trainer import BasePPOTrainer
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_ext.evaluate.heldout import HeldOut
from openrlhf_ext.losses.normalise import temperature_at
from openrlhf_ext.memory_use import process_gib, tree_gib
from openrlhf_ext.methods.base import RolloutMethod
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.record.run_dir import RunDir, read_events
from openrlhf_ext.rollout.deadline import wait_for
from openrlhf_ext.rollout.prompts import Prompt, Stream
from openrlhf_ext.rollout.source import Rollout, RolloutSource, SamplingOptions
from openrlhf_ext.training_loop import Calendar, Interrupted, TrainingLoop

__all__ = ["Interrupted", "RolloutTrainer", "Schedule"]


@dataclass(frozen=True)
class Schedule(Calendar):
    """The calendar of a run with engines; one step = one rollout batch."""

    eval_every: int = 0
    eval_at_start: bool = True
    eval_at_end: bool = True
    keep_best: bool = False
    """Keep the policy of the best evaluation, by greedy accuracy on the first held-out set."""
    keep_rollouts_every: int = 1
    final_temperature: float | None = None
    sync_timeout: float = 600.0

    def evaluations_after(self, step: int) -> int:
        """How many evaluations come after those of ``step``, the one at the end included."""
        between = max(0, (self.steps - 1) // self.eval_every - step // self.eval_every) if self.eval_every else 0
        return between + (self.eval_at_end and step < self.steps)


class RolloutTrainer(TrainingLoop, BasePPOTrainer):
    """One run of a rollout method; the loop around its steps is `TrainingLoop.fit`."""

    phases = ("generate", "experience", "train", "sync")
    schedule: Schedule

    def __init__(
        self,
        *,
        strategy,
        actor_group,
        reference_group,
        critic_group,
        engines: Sequence[ray.actor.ActorHandle],
        tokenizer,
        source: RolloutSource,
        sampling: SamplingOptions,
        schedule: Schedule,
        heldout: Sequence[HeldOut],
        run: RunDir,
        progress: Progress,
        maker_class: type,
        method: RolloutMethod,
    ) -> None:
        super().__init__(strategy, actor_group, critic_group, None, reference_group, list(engines), tokenizer)
        self.experience_maker = maker_class(
            actor_group, critic_group, None, reference_group, self.kl_ctl, strategy, tokenizer
        )
        method.configure(self.experience_maker)
        self.begin(schedule, run, progress)
        self.source, self.sampling, self.heldout = source, sampling, heldout
        self.method = method
        self._owes_start_evaluation = False
        self._best = last_best(run) if run.resumed else None
        self._gap: dict[str, float] = {}
        self._synced_tensors = 0

    @property
    def stream(self) -> Stream:
        return self.source.stream

    def _before_steps(self, step: int) -> None:
        self._owes_start_evaluation = step == 0 and self.schedule.eval_at_start
        if self.heldout:
            self.progress.expect_evaluations(self.schedule.evaluations_after)

    def _legend(self) -> str:
        accuracy = [
            f"{h.name}/accuracy = share of {len(h.prompts)} held-out problems solved greedily" for h in self.heldout
        ]
        parts = ["reward, correct = means over the step's answers", "length = tokens per answer", *accuracy]
        return f"values: {'; '.join(parts)}; s/step = median, evaluations apart"

    def _one_step(self, step: int) -> int:
        started = time.perf_counter()
        self._clock = {}
        temperature = temperature_at(
            step, self.schedule.steps, self.sampling.temperature, self.schedule.final_temperature
        )
        if self.schedule.final_temperature is not None:
            self._set_temperature(temperature)
        with self._timed("generate"):
            rollout = self.source.rollout(
                self.args.rollout.batch_size,
                replace(self.sampling, temperature=temperature),
                step=step + 1,
                policy=f"step_{step}",
            )
        self.method.observe(rollout)
        status, step = self.train_step(rollout.samples, step)
        with self._timed("record"):
            if self.schedule.keep_rollouts_every and step % self.schedule.keep_rollouts_every == 0:
                self.run.write_rollouts(f"step_{step:06d}", rollout.rows)
        self.run.add_cost(**_cost(rollout))
        metrics = self._metrics(rollout, status, temperature)
        if self._eval_due(step):
            metrics |= self.evaluate_heldout(step, record=False)
        metrics |= {f"time/{name}": seconds for name, seconds in self._clock.items()}
        metrics["time/step"] = time.perf_counter() - started
        self.run.metrics(step, metrics)
        self._track(step, status, metrics)
        self.progress.step(
            step,
            reward=metrics["rollout/reward_mean"],
            correct=metrics["rollout/correct"],
            length=metrics["rollout/response_length_mean"],
            **{key.removeprefix("eval/"): value for key, value in metrics.items() if key.endswith("/accuracy")},
        )
        return step

    def train_step(self, rollout_samples: list[Experience], global_step: int) -> tuple[dict, int]:
        """Upstream's step; its experience phase also tells the rollout/training gap."""
        maker = self.experience_maker
        make = maker.make_experience_batch

        def make_and_look(samples: list[Experience]) -> list[Experience]:
            with self._timed("experience"):
                experiences = make(samples)
            self._gap = logprob_gap(experiences)
            return experiences

        maker.make_experience_batch = make_and_look
        try:
            return super().train_step(rollout_samples, global_step)
        finally:
            maker.make_experience_batch = make

    def ppo_train(self, global_steps: int) -> dict:
        """Upstream's; while the critic alone learns, the policy forgets what it was given, or its first update would hold it all."""
        with self._timed("train"):
            status = super().ppo_train(global_steps)
        if global_steps <= self.args.critic.freezing_steps:
            refs = self.actor_model_group.async_run_method("drop_experience")
            wait_for(refs, "emptying the policy's buffer", self.schedule.step_timeout)
        return status

    def broadcast_to_vllm(self) -> None:
        """Send the weights to the engines; every sync is compared tensor by tensor, and a difference stops the run."""
        if self._owes_start_evaluation:
            # Until this first sync the engines hold the start weights: the first update need not wait for their evaluation.
            self._owes_start_evaluation = False
            self.evaluate_heldout(0)
        with self._timed("sync"):
            refs = self.actor_model_group.async_run_method("sync_engines")
            self._synced_tensors = wait_for(refs, "the weight sync to the engines", self.schedule.sync_timeout)[0]

    def evaluate_heldout(self, step: int, *, record: bool = True) -> dict[str, float]:
        """Metrics of every held-out set at ``step``; the graded responses go to ``rollouts/eval_*.jsonl``."""
        if not self.heldout:
            return {}
        self.progress.phase("evaluate")
        metrics: dict[str, float] = {}
        with self._timed("eval"):
            for heldout in self.heldout:
                found, rows = heldout.run(
                    self._sample_heldout, step=step, with_samples=step in (0, self.schedule.steps)
                )
                self.run.write_rollouts(f"eval_{heldout.name}_{step:06d}", rows)
                metrics |= found
        if self.schedule.keep_best:
            self._keep_best(step, metrics[f"eval/{self.heldout[0].name}/accuracy"])
        if record:
            self.run.metrics(step, metrics | {"time/eval": self._clock["eval"]})
        for tracker in self._trackers():
            tracker.log_eval(step, metrics)
        return metrics

    def _keep_best(self, step: int, accuracy: float) -> None:
        """Export the policy where it beats every earlier evaluation; the start model itself is where the user has it."""
        if self._best is not None and accuracy <= self._best:
            return
        self._best = accuracy
        if step > 0:
            self.save_model(self.run.best)
        self.run.event("best", step=step, accuracy=accuracy)

    def save_model(self, directory: Path) -> None:
        """Write the policy as a Hugging Face model; complete or absent."""
        self.export(self.actor_model_group, directory)

    def _groups(self) -> list:
        return [group for group in (self.actor_model_group, self.critic_model_group) if group is not None]

    def _trackers(self) -> list:
        return [tracker for tracker in (self.wandb_logger, self.tensorboard_logger) if tracker is not None]

    def _state(self, step: int) -> dict:
        return {
            "step": step,
            "stream": self.stream.state_dict(),
            "groups_total": self.source.groups_total,
            "method": self.method.state_dict(),
            "kl_coefficient": self.kl_ctl.value,
        }

    def _restore(self, state: dict) -> None:
        self.method.load_state_dict(state["method"])
        self.stream.load_state_dict(state["stream"])
        self.source.groups_total = state["groups_total"]
        self.kl_ctl.value = state["kl_coefficient"]

    def _restored(self) -> None:
        self.broadcast_to_vllm()

    def _eval_due(self, step: int) -> bool:
        schedule = self.schedule
        if step == schedule.steps:
            return schedule.eval_at_end
        return bool(schedule.eval_every) and step % schedule.eval_every == 0

    def _sample_heldout(self, prompts: Sequence[Prompt], temperature: float, samples: int) -> list[list[dict]]:
        options = replace(self.sampling, temperature=temperature, top_p=1.0, samples_per_prompt=samples)
        return self.source.sample(prompts, options)

    def _set_temperature(self, temperature: float) -> None:
        groups = [group for group in (self.actor_model_group, self.reference_model_group) if group is not None]
        refs = [ref for group in groups for ref in group.async_run_method("set_temperature", temperature)]
        wait_for(refs, "setting the temperature", self.schedule.sync_timeout)

    def _metrics(self, rollout: Rollout, status: dict, temperature: float) -> dict[str, float]:
        metrics = rollout_metrics(rollout) | train_metrics(status) | self.method.metrics(rollout) | self._gap
        metrics["rollout/temperature"] = temperature
        metrics["health/synced_tensors"] = float(self._synced_tensors)
        metrics["memory/driver_gib"], metrics["memory/tree_gib"] = process_gib(), tree_gib()
        return metrics

    def _track(self, step: int, status: dict, metrics: dict[str, float]) -> None:
        """The same numbers through upstream's W&B and TensorBoard loggers."""
        for tracker in self._trackers():
            tracker.log_train(step, metrics | {"generated_samples": status.get("generated_samples")})


def last_best(run: RunDir) -> float | None:
    """The accuracy of the model in ``best``. From the events, not from a checkpoint: a kill may have lost the steps, not the export."""
    found = [event["accuracy"] for event in read_events(run.path) if event["kind"] == "best"]
    return found[-1] if found else None


def logprob_gap(experiences: Sequence[Experience]) -> dict[str, float]:
    """|log pi_train - log pi_rollout| of the sampled tokens, both on the full softmax at the rollout temperature: mean and maximum."""
    gaps = [
        (e.action_log_probs - e.rollout_log_probs).abs()[e.action_mask.bool()]
        for e in experiences
        if e.rollout_log_probs is not None
    ]
    if not gaps:
        return {}
    gap = torch.cat(gaps).float()
    return {"health/logprob_gap_mean": gap.mean().item(), "health/logprob_gap_max": gap.max().item()}


def rollout_metrics(rollout: Rollout) -> dict[str, float]:
    """Means over the batch: reward and its parts, correctness, length in tokens, truncation; and what was filtered or failed.

    An empty response has at most its end token.
    """
    rows = rollout.rows
    rewards = torch.tensor([row["reward"] for row in rows])
    lengths = [_generated(row) for row in rows]
    parts = {key: sum(row["extra_logs"][key] for row in rows) / len(rows) for key in rows[0]["extra_logs"]}
    parts["verifier_errors"] = parts.pop("verifier_error") * len(rows)
    return {
        "rollout/reward_mean": rewards.mean().item(),
        "rollout/reward_std": rewards.std().item(),
        "rollout/response_length_mean": sum(lengths) / len(rows),
        "rollout/truncated_rate": sum(row["truncated"] for row in rows) / len(rows),
        "rollout/empty_rate": sum(length <= 1 for length in lengths) / len(rows),
        "rollout/prompts_consumed": float(rollout.prompts_consumed),
        "rollout/groups_filtered": float(rollout.groups_filtered),
        "rollout/groups_failed": float(rollout.groups_failed),
    } | {f"rollout/{key}": value for key, value in parts.items()}


STATUS_NAMES = {
    "policy_loss": "train/policy_loss",
    "critic_loss": "train/critic_loss",
    "values": "train/value_mean",
    "critic_grad_norm": "train/critic_grad_norm",
    "critic_lr": "train/critic_lr",
    "return": "train/return_mean",
    "kl": "train/kl",
    "logprobs_diff": "train/logprobs_diff",
    "ppo_clip_ratio": "train/clip_ratio",
    "ppo_kl": "train/ppo_kl",
    "entropy_loss": "train/entropy",
    "actor_grad_norm": "train/grad_norm",
    "actor_lr": "train/lr",
    "group_reward_std": "rollout/group_reward_std",
    "advantage": "train/advantage_mean",
}
"""Upstream's status names -> ours; what is not here is in the rollout metrics already."""


def train_metrics(status: dict) -> dict[str, float]:
    return {ours: float(status[theirs]) for theirs, ours in STATUS_NAMES.items() if status.get(theirs) is not None}


def _cost(rollout: Rollout) -> dict[str, int]:
    generated = sum(_generated(row) for row in rollout.rows)
    trained = sum(len(row["observation_tokens"]) for row in rollout.rows)
    return {"rollout_tokens": generated, "rollout_samples": len(rollout.rows), "train_tokens": trained}


def _generated(row: dict) -> int:
    """Tokens of a trajectory that the model wrote, over all its turns."""
    return sum(end - start for start, end in row["action_ranges"])
