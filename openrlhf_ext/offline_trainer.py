"""The trainer of OREO: stored trajectories through a policy and a value network, one update of each per step.

Order of a step, on the weights that the step before left: values of the batch; the policy's update, which also tells its log-ratios of
before the update; the value network's update with those. Each set of targets serves one update.

Imported late: it pulls in torch and Ray.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from openrlhf_ext.data.trajectory import Trajectory
from openrlhf_ext.losses.health import value_health
from openrlhf_ext.losses.oreo import Objective, policy_share, value_share
from openrlhf_ext.losses.vocabulary import pieces_of
from openrlhf_ext.memory_use import process_gib, tree_gib
from openrlhf_ext.methods.oreo_workers import PolicyWork, ReferenceWork, Terms, ValueWork
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.record.run_dir import RunDir
from openrlhf_ext.rollout.collate import OfflineBatch, collate
from openrlhf_ext.rollout.deadline import wait_for
from openrlhf_ext.rollout.micro_batches import columns, cut, deal, padded, pieces_of_rounds, undeal
from openrlhf_ext.rollout.prompts import PromptStream
from openrlhf_ext.training_loop import Calendar, TrainingLoop

SLACK = 0.1
"""How far a value may leave the scale of the rewards before it is reported."""


class OfflineTrainer(TrainingLoop):
    """One run of OREO; the loop around its steps is `TrainingLoop.fit`."""

    phases = ("values", "policy", "value")

    def __init__(
        self,
        *,
        policy,
        value,
        trajectories: Sequence[Trajectory],
        data: str,
        stream: PromptStream[int],
        objective: Objective,
        batch_size: int,
        micro_batch: int,
        chunk: int,
        pad_id: int,
        reward_range: tuple[float, float],
        schedule: Calendar,
        run: RunDir,
        progress: Progress,
        ref_log_probs: Sequence[torch.Tensor] | None = None,
        trackers: Sequence = (),
    ) -> None:
        """``policy``, ``value``: groups of workers; ``data``: fingerprint of the trajectories' file, which a resumed run must find again;
        ``stream``: indices into ``trajectories``; ``ref_log_probs``: of every trajectory's columns, for the sampled regulariser."""
        self.begin(schedule, run, progress)
        self.policy, self.value = policy, value
        self.trajectories, self.data, self.stream = trajectories, data, stream
        self.objective, self.batch_size, self.micro_batch, self.chunk = objective, batch_size, micro_batch, chunk
        self.pad_id, self.reward_range = pad_id, reward_range
        self.ref_log_probs, self.trackers = ref_log_probs, list(trackers)
        self._warned = False

    def _legend(self) -> str:
        return "values: value loss, policy loss = of the step's trajectories; kl = to the start model; s/step = median"

    def _one_step(self, step: int) -> int:
        started = time.perf_counter()
        self._clock = {}
        step += 1
        rows = cut(self.stream.take(self.batch_size), self.trajectories, self.micro_batch)
        batches = [self._collate(row) for row in rows]
        with self._timed("values"):
            values = self._gather(self.value, "values", batches)
        with self._timed("policy"):
            dealt = deal(self._policy_work(rows, batches, values), self.policy.ranks)
            results = self._wait(self.policy.each("learn", dealt, self.batch_size), "the update of the policy")
            terms = undeal([terms for terms, _ in results])
        with self._timed("value"):
            work = [ValueWork(b, t.log_probs - t.ref_log_probs) for b, t in zip(batches, terms, strict=True)]
            refs = self.value.each("learn", deal(work, self.value.ranks), self.batch_size)
            facts = self._wait(refs, "the update of the value network")
        metrics = step_metrics(self.objective, batches, values, terms, self.reward_range)
        metrics |= {f"train/{name}": number for name, number in results[0][1].items()}
        metrics |= {f"train/critic_{name}": number for name, number in facts[0].items()}
        metrics["memory/driver_gib"], metrics["memory/tree_gib"] = process_gib(), tree_gib()
        metrics["train/epoch"] = self.stream.episode + self.stream.position / len(self.stream)
        self.run.add_cost(train_tokens=sum(int(batch.attention_mask.sum()) for batch in batches))
        metrics |= {f"time/{name}": seconds for name, seconds in self._clock.items()}
        metrics["time/step"] = time.perf_counter() - started
        self.run.metrics(step, metrics)
        self._warn_of_values(step, metrics)
        for tracker in self.trackers:
            tracker.log_train(step, metrics)
        self.progress.step(
            step,
            value_loss=metrics["train/value_loss"],
            policy_loss=metrics["train/policy_loss"],
            kl=metrics["train/kl"],
        )
        return step

    def save_models(self) -> None:
        """The policy as ``model``, the value network as ``value``, each complete or absent."""
        self.export(self.policy, self.run.model)
        self.export(self.value, self.run.value)

    def _collate(self, row: Sequence[int]) -> OfflineBatch:
        chosen = [self.trajectories[i] for i in row]
        return collate(chosen, pad_id=self.pad_id, need_steps=self.objective.level == "step")

    def _policy_work(
        self, rows: Sequence[Sequence[int]], batches: Sequence[OfflineBatch], values: Sequence[torch.Tensor]
    ) -> list[PolicyWork]:
        known = self.ref_log_probs
        reference = [None if known is None else padded([known[i] for i in row]) for row in rows]
        pieces = pieces_of_rounds([pieces_of(batch.is_action, self.chunk) for batch in batches], self.policy.ranks)
        return [PolicyWork(*parts) for parts in zip(batches, pieces, values, reference, strict=True)]

    def _gather(self, group, method_name: str, work: Sequence) -> list:
        """Results of all ranks, one for each piece of work, in order."""
        return undeal(self._wait(group.each(method_name, deal(work, group.ranks)), method_name))

    def _wait(self, refs: Sequence, what: str) -> list:
        return wait_for(refs, what, self.schedule.step_timeout)

    def _warn_of_values(self, step: int, metrics: dict[str, float]) -> None:
        if not metrics["health/value_outside"] or self._warned:
            return
        self._warned = True
        low, high = self.reward_range
        text = (
            f"values from {metrics['health/value_min']:.3g} to {metrics['health/value_max']:.3g} at step {step}: they left "
            f"[{low - SLACK:g}, {high + SLACK:g}], where the optimum lies; a smaller critic.adam.lr or more data per problem helps"
        )
        self.run.event("warning", step=step, message=text)
        self.progress.note(text)

    def _groups(self) -> list:
        return [self.policy, self.value]

    def _trackers(self) -> list:
        return self.trackers

    def _state(self, step: int) -> dict:
        return {"step": step, "stream": self.stream.state_dict(), "data": self.data}

    def _restore(self, state: dict) -> None:
        if state["data"] != self.data:
            raise ValueError(
                "the trajectories are not those of the checkpoint: resume with the same data.prompt_dataset, or start a new run"
            )
        self.stream.load_state_dict(state["stream"])


def step_metrics(
    objective: Objective,
    batches: Sequence[OfflineBatch],
    values: Sequence[torch.Tensor],
    terms: Sequence[Terms],
    reward_range: tuple[float, float],
) -> dict[str, float]:
    """Both losses at the weights before the update, and what drives them, over all micro-batches of a step.

    ``train/log_ratio_*`` is the mean of sum l over whole trajectories, ``train/value_*`` the mean of V over their states, both for
    trajectories of the highest reward (success) and the others (failure) apart; absent where a batch has none of a kind.
    """
    total = sum(len(batch.rewards) for batch in batches)
    found = dict.fromkeys(("train/value_loss", "train/policy_loss", "train/bellman", "train/kl"), 0.0)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    kinds: dict[str, list[float]] = {}
    for batch, value, term in zip(batches, values, terms, strict=True):
        ratios = term.log_probs - term.ref_log_probs
        rest = (batch.rewards, batch.is_action, batch.starts_step, total)
        policy = policy_share(objective, value, ratios, term.kl, *rest)
        found["train/value_loss"] += value_share(objective, value, ratios, *rest).item()
        found["train/policy_loss"] += policy.loss.item()
        found["train/bellman"] += policy.bellman.item()
        found["train/kl"] += policy.regulariser.item()
        states = objective.states(batch.is_action, batch.starts_step).value
        seen.append((value[states], states[states]))
        for i, reward in enumerate(batch.rewards.tolist()):
            kind = "success" if reward >= reward_range[1] - 1e-6 else "failure"
            kinds.setdefault(f"train/log_ratio_{kind}", []).append(ratios[i][batch.is_action[i]].sum().item())
            kinds.setdefault(f"train/value_{kind}", []).append(value[i][states[i]].mean().item())
    found |= {name: sum(numbers) / len(numbers) for name, numbers in kinds.items()}
    found["train/reward_mean"] = sum(batch.rewards.sum().item() for batch in batches) / total
    health = value_health(torch.cat([v for v, _ in seen]), torch.cat([s for _, s in seen]), *reward_range, SLACK)
    found |= {"health/value_min": health.minimum, "health/value_max": health.maximum}
    return found | {"health/value_outside": health.outside}


def reference_log_probs(
    policy,
    trajectories: Sequence[Trajectory],
    *,
    micro_batch: int,
    chunk: int,
    pad_id: int,
    timeout: float,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> list[torch.Tensor]:
    """Log-probs of the actions of every trajectory under the reference, one vector of its columns each, computed by the policy's workers.

    ``tell`` hears (trajectories done, of how many).
    """
    rows = cut(range(len(trajectories)), trajectories, micro_batch)
    found: dict[int, torch.Tensor] = {}
    window = 8 * policy.ranks
    for at in range(0, len(rows), window):
        chosen = rows[at : at + window]
        batches = [collate([trajectories[i] for i in row], pad_id=pad_id) for row in chosen]
        idle = -len(batches) % policy.ranks  # ranks with sharded weights must all take part in every round
        batches += batches[-1:] * idle
        pieces = pieces_of_rounds([pieces_of(batch.is_action, chunk) for batch in batches], policy.ranks)
        work = [ReferenceWork(batch, count) for batch, count in zip(batches, pieces, strict=True)]
        refs = policy.each("reference_log_probs", deal(work, policy.ranks))
        results = undeal(wait_for(refs, "log-probs of the reference", timeout))
        for row, log_probs in zip(chosen, results, strict=False):
            found |= {i: log_probs[k, : columns(trajectories[i])].clone() for k, i in enumerate(row)}
        tell(min(len(found), len(trajectories)), len(trajectories))
    wait_for(policy.async_run_method("drop_reference"), "freeing the reference", timeout)
    return [found[i] for i in range(len(trajectories))]
