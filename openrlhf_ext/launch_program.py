"""An upstream program (SFT, RM, DPO) on a placement group, recorded like every run."""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

from openrlhf_ext.checkpoint import follow_umask
from openrlhf_ext.methods.base import Recipe
from openrlhf_ext.record.trackers import enable_wandb
from openrlhf_ext.session import connect, worker_environment

if TYPE_CHECKING:
    import ray

    from openrlhf_ext.config.load import Resolved
    from openrlhf_ext.plan import Plan
    from openrlhf_ext.record.progress import Progress
    from openrlhf_ext.record.run_dir import RunDir

POLL_SECONDS = 1.0

SHOWN = {"loss": "train/loss", "accuracy": "train/accuracy", "eval_loss": "eval/loss", "eval_accuracy": "eval/accuracy"}
"""What the progress line says of a metrics row."""


def run_program(
    resolved: Resolved, plan: Plan, recipe: Recipe, run: RunDir, progress: Progress, *, resume: bool
) -> None:
    """Run the program to its end on every rank and keep its model in the run directory."""
    args = resolved.upstream_args()
    progress.note(legend(resolved.preferences))
    progress.phase("start Ray")
    group = plan.groups[0]
    environment = worker_environment(plan.device, group.threads, resolved.run.kv_cache_gib)
    logger = enable_wandb(args, run.path) if resolved.run.wandb else {}
    connect(resolved.run.ray_address, environment)
    progress.phase("import")
    from openrlhf_ext import upstream

    upstream.install()
    from openrlhf_ext.topology import PlannedGroup, place
    from openrlhf_ext.upstream.actors import ProgramActor

    unfinished = run.model.with_name(run.model.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    args.ckpt.output_dir, args.ckpt.path = str(unfinished), str(run.checkpoints)
    args.ckpt.load_enable = resume
    args.record = argparse.Namespace(run_dir=str(run.path), resume=resume)
    recipe.tell_workers(resolved, args)
    names = recipe.substitutions | recipe.names(resolved)

    progress.phase("place")
    placed = place(plan, resolved.run.placement_timeout)
    progress.phase("load model and data")
    ranks = PlannedGroup(group, ProgramActor, placed[group.bundle_set])
    _follow(ranks.async_run_method("run", recipe.program, args, names, logger), run, progress)
    shutil.rmtree(run.model, ignore_errors=True)
    follow_umask(unfinished)
    unfinished.rename(run.model)


def legend(pairs: bool) -> str:
    """One line that says what the values on the progress line are."""
    accuracy = "; accuracy = share whose better answer scores higher" if pairs else ""
    return f"values: loss = the step's mean{accuracy}; eval ... = the same on eval.dataset; s/step = median"


def _follow(refs: list[ray.ObjectRef], run: RunDir, progress: Progress) -> None:
    """Show what the ranks record until all are done; the first failure ends the run."""
    import ray

    from openrlhf_ext.record.rows import read_metrics

    pending, shown = list(refs), 0
    while pending:
        done, pending = ray.wait(pending, timeout=POLL_SECONDS)
        ray.get(done)
        rows = read_metrics(run.metrics_file) if run.metrics_file.exists() else []
        news = [row for row in rows[shown:] if "train/loss" in row]
        if news:  # several steps may have passed: one call, so that their time is shared out among them
            values = {name: row[key] for row in news for name, key in SHOWN.items() if row.get(key) is not None}
            progress.step(int(news[-1]["step"]), **values)
        shown = max(shown, len(rows))
