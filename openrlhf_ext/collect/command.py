"""`openrlhf-ext collect`: sample responses of a model to training problems and grade them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.config.problem import Problem, errors, refuse
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
    from openrlhf_ext.collect.request import Checked

_EXAMPLE = """\
Prompts are rows {"input", "label"} as `prepare` writes them, or a task's released file, e.g. {"question", "answer"} of GSM8K.
What comes out are trajectories (docs/formats.md), problem by problem: data for `train oreo`, `prepare sft`, `prepare pairs`, `explore`.

examples:
  openrlhf-ext collect --model runs/sft-chain/model --task chain --prompts data/chain/train.jsonl --n 4 --limit 256 --out data/collected.jsonl
  openrlhf-ext collect --model models/sft --task gsm8k --prompts data/gsm8k/train.jsonl --n 100 --stop Problem: --engines 4 --out data/samples.jsonl"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the ``collect`` command."""
    parser = subparsers.add_parser(
        "collect",
        help="sample and grade: trajectories",
        description="Sample N responses to every problem of a file, grade them and append them to a file of trajectories. "
        "Everything is checked before anything starts.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", required=True, metavar="M", help="model folder, or NAME=FOLDER")
    parser.add_argument("--prompts", required=True, type=Path, metavar="FILE", help="problems: jsonl or json")
    parser.add_argument("--n", required=True, type=int, metavar="N", help="responses per problem")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="jsonl file of trajectories")
    parser.add_argument("--resume", action="store_true", help="go on with --out")
    what = parser.add_argument_group("what is asked (and --task NAME with any --task.KEY)")
    what.add_argument("--limit", type=int, metavar="N", help="only the first N problems")
    what.add_argument(
        "--template", default="plain", metavar="T", help="of released files: plain (default), alpaca, chat ..."
    )
    what.add_argument("--system", metavar="TEXT", help="system message of the template (default: the task's own)")
    what.add_argument("--temperature", type=float, default=0.7, metavar="T", help="default 0.7")
    what.add_argument("--top-p", type=float, default=1.0, metavar="P", help="default 1")
    what.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens (default: from all)")
    what.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help="longest response in tokens (default 512, or what the context leaves)",
    )
    what.add_argument("--stop", nargs="+", default=(), metavar="TEXT", help="a response ends before any of these texts")
    what.add_argument(
        "--delimiters",
        nargs="+",
        default=(),
        metavar="TEXT",
        help=r"steps end after these, e.g. '\n' '. ' (default: as the task says)",
    )
    what.add_argument("--logprobs", action="store_true", help="keep the log-probs of the sampled tokens")
    what.add_argument(
        "--seed", type=int, default=42, help="default 42; every response has a seed of its own made of it"
    )
    add_engine_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """0 = done, 2 = the request was wrong, 1 = it failed while running."""
    from openrlhf_ext.collect.request import CollectRequest, check_request

    place = Place.of(args)
    problems = setting_problems(args) + engine_problems(args, place.device, place.gpus)
    task = task_settings(args)
    if "name" not in task:
        problems.append(Problem("--task", "missing", "name the task that grades the responses, e.g. --task chain"))
    request = CollectRequest(
        model=args.model,
        task=task,
        prompts=args.prompts,
        out=args.out,
        samples=args.n,
        template=args.template,
        system=args.system,
        temperature=args.temperature,
        top_p=args.top_p,
        top_k=args.top_k,
        max_new_tokens=args.max_new_tokens,
        stop=unescaped(args.stop),
        delimiters=unescaped(args.delimiters),
        limit=args.limit,
        seed=args.seed,
        wave=max(args.wave, 1),
        logprobs=args.logprobs,
        resume=args.resume,
        precision=place.precision,
    )
    checked, found = check_request(request, place.device)
    # A missing task was said above; make_task would say it again.
    problems += [problem for problem in found if "name" in task or not problem.where.startswith("task.name")]
    if errors(problems) or checked is None:
        return refuse(problems)
    remark(problems)
    return _run(checked, args, place)


def unescaped(texts: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    r"""``\n`` and ``\t`` as a shell hands them over, as the characters they stand for."""
    return tuple(text.replace("\\n", "\n").replace("\\t", "\t") for text in texts)


def _run(checked: Checked, args: argparse.Namespace, place: Place) -> int:
    from openrlhf_ext.collect.run import collect

    def work() -> str:
        return f"{collect(checked, engine_options(args, place)).text}\ntrajectories: {args.out}"

    return carry_out(work, f"whole waves are in {args.out}")
