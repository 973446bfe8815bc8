"""A method on stored trajectories: policy and value network as Ray workers, the trainer in this process, no engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.offline_data import (
    file_fingerprint,
    load_tokenizer,
    pad_id,
    read_trajectories,
    reference_fingerprint,
    reference_path,
)
from openrlhf_ext.record.trackers import enable_wandb, wandb_environment
from openrlhf_ext.session import connect, worker_environment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import torch

    from openrlhf_ext.config.load import Resolved
    from openrlhf_ext.data.trajectory import Trajectory
    from openrlhf_ext.methods.oreo_workers import Settings
    from openrlhf_ext.plan import Plan
    from openrlhf_ext.record.progress import Progress
    from openrlhf_ext.record.run_dir import RunDir


def run_offline_method(resolved: Resolved, plan: Plan, run: RunDir, progress: Progress) -> None:
    """Train, save both models into the run directory."""
    args = resolved.upstream_args()
    progress.phase("read the trajectories")
    tokenizer = load_tokenizer(resolved)
    data = read_trajectories(resolved, tokenizer)
    run.event("data", usable=len(data.trajectories), dropped=data.dropped)
    reference = Reference(resolved, run, data.trajectories, pad_id(tokenizer))
    reference.read()

    progress.phase("start Ray")
    threads = max(group.threads for group in plan.groups)
    environment = worker_environment(plan.device, threads, resolved.run.kv_cache_gib)
    logger = enable_wandb(args, run.path) if resolved.run.wandb else {}
    connect(resolved.run.ray_address, environment)

    progress.phase("import")
    from openrlhf_ext import upstream

    upstream.install()
    from openrlhf_ext.offline_trainer import OfflineTrainer
    from openrlhf_ext.rollout.prompts import PromptStream
    from openrlhf_ext.training_loop import Calendar

    if plan.batch.steps is None:
        raise ValueError("the number of steps is not known: the plan was made without the trajectories")
    settings = worker_settings(resolved)
    policy, value = start_models(resolved, plan, args, settings, progress)
    if reference.wanted:
        progress.phase("log-probs of the reference")
        reference.compute(policy)
    oreo = resolved.oreo
    with wandb_environment(logger):  # the loggers are in this process
        trainer = OfflineTrainer(
            policy=policy,
            value=value,
            trajectories=data.trajectories,
            data=file_fingerprint(resolved.text("data.prompt_dataset")),
            stream=PromptStream(list(range(len(data.trajectories))), resolved.run.seed),
            objective=settings.objective,
            batch_size=args.train.batch_size,
            micro_batch=args.train.micro_batch_size,
            chunk=settings.chunk,
            pad_id=pad_id(tokenizer),
            reward_range=(oreo.reward_low, oreo.reward_high),
            schedule=Calendar(
                plan.batch.steps, max(0, args.ckpt.save_steps), args.ckpt.max_num, resolved.run.step_timeout
            ),
            run=run,
            progress=progress,
            ref_log_probs=reference.log_probs,
            trackers=trackers(args),
        )
        trainer.fit()
    progress.phase("save the models")
    trainer.save_models()


def worker_settings(resolved: Resolved) -> Settings:
    """The method's part of what the workers are told."""
    from openrlhf_ext.losses.oreo import ALPHA, Objective
    from openrlhf_ext.methods.oreo_workers import Settings
    from openrlhf_ext.upstream.adapters import Adapter

    oreo = resolved.oreo
    alpha = ALPHA[oreo.level] if oreo.alpha is None else oreo.alpha
    return Settings(
        Objective(oreo.level, oreo.beta, alpha, oreo.turn_ends),
        reference_path(resolved),
        exact=oreo.regulariser == "exact",
        chunk=oreo.kl_chunk,
        value_adapter=Adapter(oreo.critic_lora_rank, oreo.critic_lora_alpha or oreo.critic_lora_rank)
        if oreo.critic_lora_rank
        else None,
    )


def start_models(
    resolved: Resolved, plan: Plan, args: argparse.Namespace, settings: Settings, progress: Progress
) -> list:
    """The groups of the policy and of the value network, ready to work."""
    from openrlhf.utils import get_strategy

    from openrlhf_ext.methods.oreo_workers import OreoPolicyWorker, OreoValueWorker
    from openrlhf_ext.rollout.deadline import wait_for
    from openrlhf_ext.topology import PlannedGroup, place

    strategy = get_strategy(args)
    progress.phase("place")
    placed = place(plan, resolved.run.placement_timeout)
    progress.phase("start the models")
    groups, starting = [], []
    for name, worker in (("actor", OreoPolicyWorker), ("critic", OreoValueWorker)):
        planned = plan.group(name)
        if planned is None:
            raise ValueError(f"the plan of {resolved.method} names no group {name}")
        groups.append(PlannedGroup(planned, worker, placed[planned.bundle_set]))
        path = getattr(args, name).model_name_or_path
        starting += groups[-1].async_init_model_from_pretrained(strategy, path, plan.batch.optimizer_steps, settings)
    wait_for(starting, "starting the models", resolved.run.engine_timeout)
    return groups


class Reference:
    """The reference's log-probs of every trajectory, which the sampled regulariser needs; from the disk where they are there."""

    def __init__(self, resolved: Resolved, run: RunDir, trajectories: Sequence[Trajectory], pad: int) -> None:
        self.resolved, self.trajectories, self.pad = resolved, trajectories, pad
        own = resolved.oreo.reference_cache
        self.path = Path(own) if own else run.reference
        self.log_probs: list[torch.Tensor] | None = None

    @property
    def wanted(self) -> bool:
        """Must they still be computed?"""
        return self.resolved.oreo.regulariser == "sampled" and self.log_probs is None

    def read(self) -> None:
        """Take them from the disk; raises StaleCache where they were made from something else."""
        if self.wanted and self.path.is_file():
            from openrlhf_ext.rollout.reference_cache import read_cache

            self.log_probs = read_cache(self.path, reference_fingerprint(self.resolved, self.trajectories))

    def compute(self, policy) -> None:
        """Let the policy's workers load the reference, ask it once about everything, and write that to the disk."""
        from openrlhf_ext.offline_trainer import reference_log_probs
        from openrlhf_ext.rollout.reference_cache import write_cache

        self.log_probs = reference_log_probs(
            policy,
            self.trajectories,
            micro_batch=self.resolved.whole("train.micro_batch_size"),
            chunk=self.resolved.oreo.kl_chunk,
            pad_id=self.pad,
            timeout=self.resolved.run.step_timeout,
        )
        write_cache(self.path, reference_fingerprint(self.resolved, self.trajectories), self.log_probs)


def trackers(args: argparse.Namespace) -> list:
    """Upstream's W&B and TensorBoard loggers, where they are switched on."""
    from openrlhf.utils.logging_utils import TensorboardLogger, WandbLogger

    found = [WandbLogger(args)] if args.logger.wandb.key else []
    return [*found, TensorboardLogger(args)] if args.logger.tensorboard_dir else found
