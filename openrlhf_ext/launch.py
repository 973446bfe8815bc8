"""From a checked request to a finished run: Ray session, placement groups, workers, engines, trainer, model, report.

The topology is the Plan's; this file only creates it. It is the same on a laptop (CPU bundles), on one GPU and on a cluster.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.methods import METHODS
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.record.run_dir import RunDir

if TYPE_CHECKING:
    from openrlhf_ext.config.load import Resolved
    from openrlhf_ext.plan import Plan


def launch(resolved: Resolved, plan: Plan, *, resume: bool = False) -> int:
    """Run it; 0 = done, 1 = failed or stopped while running (what was finished stays in the run directory)."""
    from openrlhf_ext.record.report import write_report
    from openrlhf_ext.record.verdict import summary_table

    recipe = METHODS[resolved.method]
    directory = Path(str(resolved.run.dir))
    title = f"{resolved.method} {resolved.task.get('name') or ''}".strip()
    run = None
    try:
        run = RunDir.create(
            directory,
            resolved.dump(),
            plan.to_json(),
            resume=resume,
            overwrite=resolved.run.overwrite,
            info={
                "method": resolved.method,
                "task": resolved.task.get("name"),
                "device": resolved.device,
                "seed": resolved.run.seed,
            },
        )
        with run, Progress(plan.batch.steps or 0, title) as progress:
            if recipe.kind == "rollout":
                from openrlhf_ext.launch_rollout import run_rollout_method

                run_rollout_method(resolved, plan, recipe, run, progress)
            elif recipe.kind == "offline":
                from openrlhf_ext.launch_offline import run_offline_method

                run_offline_method(resolved, plan, run, progress)
            else:
                from openrlhf_ext.launch_program import run_program

                run_program(resolved, plan, recipe, run, progress, resume=resume)
    except KeyboardInterrupt as stop:
        print(f"{str(stop) or 'interrupted'}\n  go on: the same command with --resume", file=sys.stderr)
        return 1
    except Exception as failure:
        print(explain(failure, directory), file=sys.stderr)
        return 1
    finally:
        release_topology()
        if run is not None:  # also of a run that failed or was stopped: that is when one wants to look
            print(f"report: {write_report([directory], directory / 'report.html')}", file=sys.stderr)
    print(summary_table(directory))
    return 0


def explain(failure: BaseException, directory: Path) -> str:
    """The worker's own error first, then where to look further."""
    lines = [f"failed: {type(failure).__name__}"]
    cause = getattr(failure, "cause", None)
    if cause is not None:  # Ray wraps what a worker raised
        lines = [f"failed in a worker: {type(cause).__name__}: {cause}", "", str(failure)]
    elif str(failure):
        lines = [f"failed: {type(failure).__name__}: {failure}"]
        lines += ["", "".join(traceback.format_tb(failure.__traceback__)[-4:])]
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        from openrlhf_ext.session import log_directory

        lines.append(f"workers' output: {log_directory()}")
    lines.append(f"what was finished: {directory}; go on from its last checkpoint: the same command with --resume")
    return "\n".join(lines)


def release_topology() -> None:
    """Actors and placement groups of this job end with it, so that a job that follows in the same session finds room."""
    if "openrlhf_ext.topology" in sys.modules:
        sys.modules["openrlhf_ext.topology"].release_all()
