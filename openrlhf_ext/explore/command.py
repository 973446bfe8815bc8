"""`openrlhf-ext explore`: find the first step of every wrong solution from which no sampled completion reaches the answer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.config.problem import errors, refuse
from openrlhf_ext.evaluate.engine_arguments import (
    Place,
    add_engine_arguments,
    carry_out,
    engine_options,
    engine_problems,
    remark,
    setting_problems,
    task_settings,
)

if TYPE_CHECKING:
    from openrlhf_ext.explore.request import Checked

WAVE = 8192
_EXAMPLE = """\
Wrong solutions are the rejected texts of `prepare pairs --kind outcome`, or the wrong samples of `collect`. Every step number is one wave over
all solutions that are still open; a finished wave is on disk before the next one starts. `prepare pairs --kind step` reads what comes out.

examples:
  openrlhf-ext explore --model runs/rft/model --pairs data/outcome.jsonl --k 4 --out data/explored.jsonl
  openrlhf-ext explore --model runs/rft/model --trajectories data/samples.jsonl --k 4 --confirm 12 --engines 4 --out data/explored.jsonl"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the ``explore`` command."""
    parser = subparsers.add_parser(
        "explore",
        help="first pits of wrong solutions",
        description="From every prefix of a wrong solution sample K completions; the first step from which none is right is its pit, and "
        "nothing is sampled beyond it. Everything is checked before anything starts.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", required=True, metavar="M", help="the explorer: model folder, or NAME=FOLDER")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--pairs", type=Path, metavar="FILE", help="outcome pairs; their rejected texts are explored")
    source.add_argument("--trajectories", type=Path, metavar="FILE", help="graded samples; the wrong ones are explored")
    parser.add_argument("--k", required=True, type=int, metavar="K", help="completions per prefix")
    parser.add_argument("--confirm", type=int, default=0, metavar="K2", help="more of them before a step is a pit")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="jsonl file")
    parser.add_argument("--resume", action="store_true", help="go on with --out")
    what = parser.add_argument_group("what is explored (and --task NAME with any --task.KEY; default: the rows' own)")
    what.add_argument("--limit", type=int, metavar="N", help="only the first N wrong solutions")
    what.add_argument("--per-problem", type=int, metavar="N", help="at most N wrong samples of a problem")
    what.add_argument("--splitter", choices=("lines", "math"), help="where steps end (default: as the task says)")
    what.add_argument(
        "--steps-cap", type=int, default=20, metavar="N", help="steps of a solution explored (default 20)"
    )
    what.add_argument("--temperature", type=float, default=0.7, metavar="T", help="default 0.7")
    what.add_argument("--top-p", type=float, default=1.0, metavar="P", help="default 1")
    what.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="longest completion (default 512, or what the context leaves)"
    )
    what.add_argument("--seed", type=int, default=42, help="default 42; every completion has a seed of its own")
    add_engine_arguments(parser)
    parser.set_defaults(wave=WAVE)
    return parser


def run(args: argparse.Namespace) -> int:
    """0 = done, 2 = the request was wrong, 1 = it failed while running."""
    from openrlhf_ext.explore.request import ExploreRequest, check_request

    place = Place.of(args)
    problems = setting_problems(args) + engine_problems(args, place.device, place.gpus)
    request = ExploreRequest(
        model=args.model,
        pairs=args.pairs,
        trajectories=args.trajectories,
        out=args.out,
        k=args.k,
        confirm=args.confirm,
        steps_cap=args.steps_cap,
        splitter=args.splitter,
        task=task_settings(args),
        temperature=args.temperature,
        top_p=args.top_p,
        max_new_tokens=args.max_new_tokens,
        limit=args.limit,
        per_problem=args.per_problem,
        seed=args.seed,
        resume=args.resume,
        precision=place.precision,
    )
    checked, found = check_request(request, place.device)
    problems += found
    if errors(problems) or checked is None:
        return refuse(problems)
    remark(problems)
    return _run(checked, args, place)


def _run(checked: Checked, args: argparse.Namespace, place: Place) -> int:
    from openrlhf_ext.explore.run import explore_with_engines

    def work() -> str:
        return f"{explore_with_engines(checked, engine_options(args, place))}\nexplored: {args.out}"

    return carry_out(work, f"whole waves are in {args.out}")
