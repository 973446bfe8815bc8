"""`openrlhf-ext evaluate`: models or a server on a suite of held-out problems."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
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
from openrlhf_ext.evaluate.option_checks import below_one

if TYPE_CHECKING:
    from openrlhf_ext.evaluate.request import Checked, Request

_EXAMPLE = """\
Models of one shape and tokenizer are exchanged inside one engine; the first model is the one the others are compared with.
Any --task.KEY of the suite's task can be given too. docs/evaluation.md explains the suites and the columns.

examples:
  openrlhf-ext evaluate --model before=models/sft after=runs/grpo/model --suite game24 --out runs/eval
  openrlhf-ext evaluate --model runs/grpo/model --suite game24 --limit 20 --samples 4 --out runs/eval-quick
  openrlhf-ext evaluate --endpoint http://localhost:8000/v1 --suite gsm8k --data data/gsm8k/test.jsonl --out runs/eval-served"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the ``evaluate`` command."""
    parser = subparsers.add_parser(
        "evaluate",
        help="evaluate models on a suite",
        description="Evaluate on held-out problems: greedily on all, with several samples on a part. Everything is checked before "
        "anything starts.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--model", nargs="+", metavar="M", help="model folders, or NAME=FOLDER")
    who.add_argument("--endpoint", metavar="URL", help="an OpenAI-compatible server, e.g. of `vllm serve`")
    parser.add_argument("--suite", required=True, metavar="NAME", help="a suite of evaluation/suites, or a YAML file")
    parser.add_argument("--out", required=True, metavar="DIR", help="where answers and figures go")
    parser.add_argument("--resume", action="store_true", help="go on with the evaluation in --out")
    what = parser.add_argument_group("what is asked (default: as the suite says)")
    add_question_arguments(what)
    what.add_argument(
        "--samples", type=int, metavar="K", help="sampled answers per problem for pass@K; 1 = greedy only"
    )
    what.add_argument("--sample-rows", type=int, metavar="R", help="pass@K over the first R problems; 0 = all")
    what.add_argument("--temperature", type=float, metavar="T", help="of the sampled answers")
    what.add_argument("--top-p", type=float, metavar="P", help="of the sampled answers")
    what.add_argument("--seed", type=int, default=42, help="of the sampled answers (default 42)")
    add_engine_arguments(parser)
    server = parser.add_argument_group("server")
    server.add_argument("--endpoint-model", metavar="NAME", help="which of the server's models")
    server.add_argument("--concurrency", type=int, default=16, metavar="N", help="requests at once (default 16)")
    server.add_argument("--request-timeout", type=float, default=120.0, metavar="S", help="seconds (default 120)")
    server.add_argument(
        "--retries", type=int, default=5, metavar="N", help="attempts after a failure that may pass (default 5)"
    )
    return parser


def add_question_arguments(group: argparse._ArgumentGroup) -> None:
    """What may be asked otherwise than a suite says."""
    group.add_argument("--data", metavar="PATH", help="file, or directory of SPLIT.jsonl")
    group.add_argument("--split", metavar="S", help="part of the data")
    group.add_argument("--limit", type=int, metavar="N", help="only the first N problems")
    group.add_argument("--template", metavar="T", help="plain, alpaca, chat ...")
    group.add_argument("--max-new-tokens", type=int, metavar="N", help="longest answer in tokens")


def suite_request(args: argparse.Namespace, models: Sequence[str]) -> Request:
    """These models on the suite, with the options that every command on a suite has."""
    from openrlhf_ext.evaluate.request import Request

    return Request(
        suite=args.suite,
        out=Path(args.out),
        models=tuple(models),
        task=task_settings(args),
        data=args.data,
        split=args.split,
        template=args.template,
        limit=args.limit,
        max_new_tokens=args.max_new_tokens,
        seed=args.seed,
        wave=max(args.wave, 1),
        resume=args.resume,
    )


def run(args: argparse.Namespace) -> int:
    """0 = done, 2 = the request was wrong, 1 = it failed while running."""
    from openrlhf_ext.evaluate.request import check_request

    place = Place.of(args)
    problems = setting_problems(args) + _server_problems(args)
    problems += engine_problems(args, place.device, place.gpus if args.model else None)
    request = replace(
        suite_request(args, args.model or ()),
        endpoint=args.endpoint,
        endpoint_model=args.endpoint_model,
        samples=args.samples,
        sample_rows=args.sample_rows,
        temperature=args.temperature,
        top_p=args.top_p,
    )
    checked, found = check_request(request, place.device)
    problems += found
    if errors(problems) or checked is None:
        return refuse(problems)
    remark(problems)
    return _run(checked, args, place)


def _run(checked: Checked, args: argparse.Namespace, place: Place) -> int:
    from openrlhf_ext.evaluate.options import ServerOptions
    from openrlhf_ext.evaluate.run import run_checked

    def work() -> str:
        server = ServerOptions(args.concurrency, args.request_timeout, args.retries)
        report = run_checked(checked, Path(args.out), engine_options(args, place), server)
        starts = f" (models: {len(report.summaries)}, engine starts: {report.engine_starts})" if args.model else ""
        return f"{report.text}\nanswers and figures: {args.out}{starts}"

    return carry_out(work, f"what is graded is in {args.out}")


def _server_problems(args: argparse.Namespace) -> list[Problem]:
    found = below_one([("concurrency", args.concurrency)])
    if not args.request_timeout > 0:
        found.append(Problem("--request-timeout", f"{args.request_timeout} seconds", "give more than 0"))
    if args.retries < 0:
        found.append(Problem("--retries", f"{args.retries}", "give 0 or more"))
    return found
