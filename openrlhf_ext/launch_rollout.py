"""A rollout method on its topology: policy, critic, reference and engines as Ray workers, the trainer in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from openrlhf_ext.methods.base import Recipe
from openrlhf_ext.record.trackers import enable_wandb, wandb_environment
from openrlhf_ext.session import connect, worker_environment

if TYPE_CHECKING:
    import argparse

    from openrlhf_ext.config.load import Resolved
    from openrlhf_ext.evaluate.heldout import HeldOut
    from openrlhf_ext.plan import Plan
    from openrlhf_ext.record.progress import Progress
    from openrlhf_ext.record.run_dir import RunDir
    from openrlhf_ext.rollout.prompts import Prompt
    from openrlhf_ext.rollout.source import SamplingOptions
    from openrlhf_ext.trainer import Schedule


def run_rollout_method(resolved: Resolved, plan: Plan, recipe: Recipe, run: RunDir, progress: Progress) -> None:
    """Train, save the model into the run directory."""
    args = resolved.upstream_args()
    progress.phase("start Ray")
    environment = worker_environment(plan.device, _threads(plan), resolved.run.kv_cache_gib)
    logger = enable_wandb(args, run.path) if resolved.run.wandb else {}
    connect(resolved.run.ray_address, environment)

    progress.phase("import")
    from openrlhf_ext import upstream

    upstream.install()
    from openrlhf.utils import get_strategy
    from openrlhf.utils.utils import get_tokenizer

    from openrlhf_ext.rollout.deadline import wait_for
    from openrlhf_ext.rollout.engines import start_engines
    from openrlhf_ext.rollout.source import RolloutSource
    from openrlhf_ext.topology import PlannedGroup, place, remember
    from openrlhf_ext.trainer import RolloutTrainer
    from openrlhf_ext.upstream.actors import imported
    from openrlhf_ext.upstream.quiet import warnings_only
    from openrlhf_ext.workers import CriticWorker, PolicyWorker, ReferenceWorker

    warnings_only()
    strategy = get_strategy(args)
    model = args.actor.model_name_or_path

    progress.phase("place")
    placed = place(plan, resolved.run.placement_timeout)
    progress.phase("start engines and models")
    first = plan.engines[0]
    engines = remember(
        start_engines(
            len(plan.engines),
            model,
            resolved.task,
            precision=resolved.precision,
            max_model_len=args.data.max_len,
            placement_group=placed[first.bundle_set],
            cpus=first.cpu,
            gpus=first.worker_gpu,
            seed=resolved.run.seed,
            threads=first.threads if plan.device == "cpu" else 0,
            tensor_parallel_size=first.tensor_parallel_size,
            enforce_eager=args.vllm.enforce_eager,
            enable_prefix_caching=args.vllm.enable_prefix_caching,
            gpu_memory_utilization=args.vllm.gpu_memory_utilization,
            enable_sleep=args.vllm.enable_sleep,
        )
    )
    duplicates = args.ds.ring_attn_size * args.ds.tensor_parallel_size
    actor_plan, critic_plan, reference_plan = plan.group("actor"), plan.group("critic"), plan.group("ref")
    if actor_plan is None:
        raise ValueError(f"the plan of {resolved.method} names no policy group")
    actor = PlannedGroup(actor_plan, PolicyWorker, placed[actor_plan.bundle_set], duplicates)
    starting = actor.async_init_model_from_pretrained(strategy, model, plan.batch.optimizer_steps, engines)
    critic = reference = None
    if critic_plan is not None:
        critic = PlannedGroup(critic_plan, CriticWorker, placed[critic_plan.bundle_set], duplicates)
        starting += critic.async_init_model_from_pretrained(
            strategy, args.critic.model_name_or_path, plan.batch.optimizer_steps
        )
    if reference_plan is not None:
        reference = PlannedGroup(reference_plan, ReferenceWorker, placed[reference_plan.bundle_set], duplicates)
        starting += reference.async_init_model_from_pretrained(strategy, model)

    method = recipe.method(resolved, plan)

    def start_group(name: str, worker: type) -> PlannedGroup:
        group = plan.group(name)
        if group is None:
            raise ValueError(f"the plan of {resolved.method} names no group {name}")
        return PlannedGroup(group, worker, placed[group.bundle_set], duplicates)

    starting += method.start_workers(start_group, strategy)
    tokenizer = get_tokenizer(model, None, "left", strategy, use_fast=not args.data.disable_fast_tokenizer)
    prompts = load_prompts(args, strategy, tokenizer, args.data.prompt_dataset, args.data.prompt_split)
    sampling = sampling_options(args)
    source = RolloutSource(
        strategy,
        method.stream(prompts, resolved.run.seed),
        tokenizer,
        engines,
        task_name=str(resolved.task["name"]),
        on_error=resolved.task_options.on_error,
        keep_score=dynamic_filter(args),
        timeout=resolved.run.step_timeout,
    )
    wait_for(
        [engine.ready.remote() for engine in engines] + starting,
        "starting engines and models",
        resolved.run.engine_timeout,
    )
    with wandb_environment(logger):  # the trainer, and so its loggers, are in this process
        trainer = RolloutTrainer(
            strategy=strategy,
            actor_group=actor,
            reference_group=reference,
            critic_group=critic,
            engines=engines,
            tokenizer=tokenizer,
            source=source,
            sampling=sampling,
            schedule=schedule(resolved, plan, args),
            heldout=held_out(resolved, args, strategy, tokenizer),
            run=run,
            progress=progress,
            maker_class=imported(str(recipe.maker)),
            method=method,
        )
        trainer.fit()
    progress.phase("save the model")
    trainer.save_model(run.model)


def load_prompts(args: argparse.Namespace, strategy, tokenizer, path: str, split: str) -> list[Prompt]:
    """Rows of a prompt file (or of several, blended as upstream does), rendered as the model will see them."""
    from openrlhf.datasets import PromptDataset
    from openrlhf.datasets.utils import blending_datasets

    from openrlhf_ext.rollout.prompts import Prompt

    probabilities = args.data.prompt_probs if path == args.data.prompt_dataset else None
    rows = blending_datasets(path, probabilities, strategy, args.train.seed, args.data.max_samples, dataset_split=split)
    rows = rows.select(range(min(args.data.max_samples, len(rows))))
    dataset = PromptDataset(rows, tokenizer, strategy, input_template=args.data.input_template)
    return [
        Prompt(i, text, label if isinstance(label, str) else json.dumps(label), datasource)
        for i, (datasource, text, label, _images) in enumerate(dataset[i] for i in range(len(dataset)))
    ]


def sampling_options(args: argparse.Namespace) -> SamplingOptions:
    """How rollouts are sampled, from upstream's keys."""
    from openrlhf_ext.rollout.source import SamplingOptions

    return SamplingOptions(
        temperature=args.rollout.temperature,
        top_p=args.rollout.top_p,
        max_new_tokens=args.rollout.max_new_tokens,
        min_new_tokens=1,
        samples_per_prompt=args.rollout.n_samples_per_prompt,
        max_len=args.data.max_len,
    )


def dynamic_filter(args: argparse.Namespace):
    """Keeps a group whose mean correctness lies strictly inside the range; None without dynamic filtering."""
    if not args.algo.dynamic_filtering_enable:
        return None
    low, high = args.algo.dynamic_filtering_range
    return lambda score: low < score < high


def schedule(resolved: Resolved, plan: Plan, args: argparse.Namespace) -> Schedule:
    """The run's calendar in steps; upstream writes "never" as -1."""
    from openrlhf_ext.trainer import Schedule

    if plan.batch.steps is None:
        raise ValueError("the number of steps is not known: the plan was made without the prompt data")
    return Schedule(
        steps=plan.batch.steps,
        eval_every=max(0, args.eval.steps),
        eval_at_start=resolved.evaluation.at_start,
        eval_at_end=resolved.evaluation.at_end,
        keep_best=resolved.evaluation.keep_best,
        save_every=max(0, args.ckpt.save_steps),
        keep_checkpoints=args.ckpt.max_num,
        keep_rollouts_every=resolved.run.keep_rollouts,
        final_temperature=resolved.number_or_none(resolved.own_key("final_temperature")),
        sync_timeout=resolved.run.sync_timeout,
        step_timeout=resolved.run.step_timeout,
    )


def held_out(resolved: Resolved, args: argparse.Namespace, strategy, tokenizer) -> list[HeldOut]:
    """The in-training evaluation: ``eval.dataset``, then ``evaluation.test_dataset``; right is what the run calls right, its reward is not used."""
    from openrlhf_ext.evaluate.heldout import HeldOut, judging_options
    from openrlhf_ext.tasks import make_task

    name = str(resolved.task["name"])
    files = {name: (args.eval.dataset, resolved.evaluation.limit)}
    files[f"{name}-test"] = (resolved.evaluation.test_dataset, None)
    return [
        HeldOut(
            name=suite,
            prompts=load_prompts(args, strategy, tokenizer, path, args.eval.split)[:limit],
            task=make_task(judging_options(resolved.task)),
            samples=args.eval.n_samples_per_prompt,
            sample_rows=resolved.evaluation.sample_rows,
            temperature=args.eval.temperature or 1.0,
        )
        for suite, (path, limit) in files.items()
        if path
    ]


def _threads(plan: Plan) -> int:
    return max([group.threads for group in plan.groups] + [engine.threads for engine in plan.engines])
