"""``train METHOD``: resolve, check, plan, look at the world, and only then start."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from openrlhf_ext.cluster import Cluster
from openrlhf_ext.config.check import check
from openrlhf_ext.config.check_range import has_positive_sizes
from openrlhf_ext.config.knobs import AVAILABLE_METHODS
from openrlhf_ext.config.load import Resolved, load
from openrlhf_ext.config.problem import ConfigError, Problem, errors, notes, refuse
from openrlhf_ext.plan import Plan, make_plan
from openrlhf_ext.preflight import preflight, read_inputs

_EXAMPLE = """\
Any key of the YAML file can be given here too: --section.key VALUE (a list as a,b; a switch without a value is true).
--task T is short for --task.name T. docs/config.md lists the keys.

examples:
  openrlhf-ext train sft  --config examples/configs/sft_game24_tiny.yaml
  openrlhf-ext train grpo --config examples/configs/grpo_game24_tiny.yaml --grpo.max_steps 5 --run.dir runs/try
  openrlhf-ext train grpo --config examples/configs/grpo_game24_tiny.yaml --run.dir runs/try --resume
  openrlhf-ext train grpo --config examples/configs/grpo_game24_paper.yaml --dry-run --cluster 2x8"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the ``train`` command."""
    parser = subparsers.add_parser(
        "train",
        help="train a model by one of the methods",
        description="Train a model. Everything is checked before anything starts; all problems are listed with their fix.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("method", metavar="METHOD", help=f"one of {', '.join(AVAILABLE_METHODS)}")
    parser.add_argument("--config", metavar="FILE", help="YAML file")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved YAML and the plan, start nothing")
    parser.add_argument("--resume", action="store_true", help="go on with the run in run.dir")
    parser.add_argument(
        "--cluster",
        metavar="C",
        help="with --dry-run, check the plan against NODESxGPUS such as 2x8, local (this machine) or auto (what is here)",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """0 = done, 2 = the request was wrong, 1 = it failed while running."""
    try:
        cluster, elsewhere = _cluster(args.cluster, args.dry_run)
    except ValueError as error:
        return refuse([Problem("--cluster", str(error), "leave it out to check against what is here")])
    here = Cluster.local()
    resolved, plan, problems = examine(
        args.method,
        args.config,
        args.settings,
        local_device=(cluster or here).device,
        cluster=cluster,
        elsewhere=elsewhere,
        resume=args.resume,
        dry_run=args.dry_run,
    )
    if errors(problems):
        return refuse(problems)
    assert resolved is not None and plan is not None
    if args.dry_run:
        shown = cluster or (here if plan.device == "cpu" else None)
        lines = [*plan.render(shown).splitlines(), *_no_gpus_here(plan, here, cluster), *_remarks(problems)]
        told = "\n".join(f"# {line}" for line in lines)
        # The plan is a few lines, the YAML hundreds: it stands where a reader looks first, in a file at the top, on a terminal at the end.
        print(*([resolved.dump(), told] if sys.stdout.isatty() else [told, "", resolved.dump()]), sep="\n")
        return 0
    print("\n".join(_remarks(problems)), file=sys.stderr)
    if cluster is None or resolved.run.ray_address not in ("auto", "local"):
        found = problems_after_joining(resolved, plan, here)
        if found:
            return refuse(found)
    from openrlhf_ext.launch import launch

    return launch(resolved, plan, resume=args.resume)


def examine(
    method: str,
    config: str | None,
    settings: Sequence[tuple[str, str]],
    *,
    local_device: str,
    cluster: Cluster | None,
    elsewhere: bool = False,
    resume: bool = False,
    dry_run: bool = False,
) -> tuple[Resolved | None, Plan | None, list[Problem]]:
    """Resolve and check a request as far as its own problems allow; nothing is written.

    Args:
        local_device: what ``run.device: auto`` means.
        cluster: to check the plan against; None where it is not known before connecting (``problems_after_joining`` checks it then).
        elsewhere: the run is meant for other machines, so a file that is not here is only remarked on.
    """
    problems: list[Problem] = []
    try:
        resolved = load(method, config, settings, local_device=local_device)
    except ConfigError as error:
        if not isinstance(error.partial, Resolved):
            return None, None, error.problems
        resolved, problems = error.partial, list(error.problems)
    misspelt = bool(problems)
    if resolved.run.ray_address not in ("auto", "local") and not elsewhere:
        cluster = None
    elsewhere = elsewhere or (dry_run and resolved.device != local_device)
    problems += check(resolved)
    inputs = read_inputs(resolved, elsewhere=elsewhere)
    plan = None
    if has_positive_sizes(resolved):
        cores = int(cluster.nodes[0].cpus) if cluster else None
        plan = make_plan(resolved, resolved.device, rows=inputs.rows, model=inputs.model, cores=cores)
    problems += preflight(
        resolved,
        plan,
        inputs=inputs,
        cluster=cluster,
        resume=resume,
        dry_run=dry_run,
        tokens=not misspelt,  # loading a tokenizer takes seconds: a misspelt request is answered at once
    )
    return resolved, plan, problems


def problems_after_joining(resolved: Resolved, plan: Plan, here: Cluster) -> list[Problem]:
    """Why the plan cannot run on the cluster that ``run.ray_address`` or ``RAY_ADDRESS`` names; asked before anything is written."""
    from openrlhf_ext.session import joined_address

    address = joined_address(resolved.run.ray_address)
    try:
        cluster = Cluster.at(address) if address else here
    except ConnectionError as error:
        fix = "ray start --head on its first node, or --run.ray_address local for a session of its own"
        return [Problem("run.ray_address", f"no Ray cluster answers at {address}: {error}", fix)]
    except (ValueError, RuntimeError) as error:  # a malformed address; a cluster of another Ray or Python version
        fix = "HOST:PORT of a cluster with this machine's versions of Ray and Python"
        return [Problem("run.ray_address", f"{address} cannot be joined: {error}", fix)]
    found = [Problem(where, what, fix) for where, what, fix in plan.problems(cluster)]
    if cluster.device == "cuda" and resolved.device == "cpu" and not resolved.explicit("run.device"):
        what = f"auto was taken for cpu, as this machine has no GPU, but the cluster has {cluster.gpus:g}"
        found.append(Problem("run.device", what, "--run.device cuda, or --run.device cpu if that is what is wanted"))
    return found


def _cluster(text: str | None, dry_run: bool) -> tuple[Cluster | None, bool]:
    """The cluster to check against, and whether it is only imagined."""
    connects = bool(os.environ.get("RAY_ADDRESS"))
    if text is None:
        return (None if dry_run or connects else Cluster.local()), False
    if text in ("local", "auto"):
        return (None if text == "auto" and connects else Cluster.local()), False
    cluster = Cluster.of(text)
    if not dry_run:
        raise ValueError(f"{text} describes a cluster that need not be there: it goes with --dry-run")
    return cluster, True


def _no_gpus_here(plan: Plan, here: Cluster, cluster: Cluster | None) -> list[str]:
    """A remark where the plan is for another machine than this one."""
    if plan.device != "cuda" or here.gpus:
        return []
    booked = sum(bundle.get("GPU", 0) for bundles in plan.bundle_sets.values() for bundle in bundles)
    fix = "" if cluster else " (to check it against a cluster that has them: --cluster NODESxGPUS)"
    return [f"note: the plan books {booked:g} GPUs, this machine has none: it cannot be started here{fix}"]


def _remarks(problems: Sequence[Problem]) -> list[str]:
    return [f"note: {p.where}: {p.what}{f' (fix: {p.fix})' if p.fix else ''}" for p in notes(problems)]
