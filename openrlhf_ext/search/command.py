"""`openrlhf-ext search`: answers found with a value network, compared with greedy ones."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.collect.command import unescaped
from openrlhf_ext.config.problem import Problem, errors, refuse
from openrlhf_ext.evaluate.command import add_question_arguments, suite_request
from openrlhf_ext.evaluate.engine_arguments import (
    Place,
    add_engine_arguments,
    carry_out,
    engine_options,
    engine_problems,
    joined_by,
    remark,
    setting_problems,
)
from openrlhf_ext.evaluate.option_checks import below_one

if TYPE_CHECKING:
    from openrlhf_ext.search.request import Checked

_EXAMPLE = """\
--beams B keeps the B best partial answers after every step and samples B next steps of each; --best-of K samples K whole answers. Either
way the finished answer of the highest value is the result. Several numbers share one engine start; greedy answers are measured beside
them. docs/oreo.md explains where values are read and what is counted.

examples:
  openrlhf-ext search --policy runs/oreo-chain/model --value runs/oreo-chain/value --suite chain --beams 1 3 5 --out runs/search-chain
  openrlhf-ext search --policy runs/oreo/model --value runs/oreo/value --suite gsm8k --best-of 8 --limit 200 --out runs/best-of-8"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the ``search`` command."""
    parser = subparsers.add_parser(
        "search",
        help="value-guided search",
        description="Answer held-out problems with a search that a value network guides. Everything is checked before anything starts.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--policy", required=True, metavar="M", help="model folder, or NAME=FOLDER")
    parser.add_argument(
        "--value", required=True, type=Path, metavar="V", help="value network: RUN/value of `train oreo`"
    )
    parser.add_argument("--suite", required=True, metavar="NAME", help="a suite of evaluation/suites, or a YAML file")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--beams", nargs="+", type=int, default=(), metavar="B", help="step-level beam search of width B")
    how.add_argument("--best-of", nargs="+", type=int, default=(), metavar="K", help="the best of K whole answers")
    parser.add_argument("--out", required=True, metavar="DIR", help="where answers and figures go")
    parser.add_argument("--resume", action="store_true", help="go on with the search in --out")
    search = parser.add_argument_group("search")
    search.add_argument("--samples", type=int, metavar="N", help="next steps sampled for each beam (default: B)")
    search.add_argument("--max-steps", type=int, default=20, metavar="N", help="steps of an answer (default 20)")
    search.add_argument("--step-tokens", type=int, metavar="N", help="tokens of a step (default: those of an answer)")
    search.add_argument("--enough", type=int, metavar="N", help="stop a problem at N finished answers (default: never)")
    search.add_argument(
        "--delimiters",
        nargs="+",
        default=(),
        metavar="TEXT",
        help=r"a step ends with one of these (default '\n'; math: '\n' '. ' '.$ ')",
    )
    search.add_argument("--temperature", type=float, default=1.0, metavar="T", help="of sampled steps (default 1)")
    search.add_argument("--no-greedy", action="store_true", help="leave the greedy answers out")
    search.add_argument("--seed", type=int, default=42, help="default 42")
    what = parser.add_argument_group("what is asked (default: as the suite says)")
    add_question_arguments(what)
    value = parser.add_argument_group("value network")
    value.add_argument(
        "--value-workers", type=int, default=1, metavar="N", help="processes that read values (default 1)"
    )
    value.add_argument(
        "--value-device", choices=("auto", "cpu", "cuda"), default="auto", help="auto = a GPU of its own if one is left"
    )
    value.add_argument("--value-batch-tokens", type=int, default=16384, metavar="N", help="padded size of a batch")
    add_engine_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """0 = done, 2 = the request was wrong, 1 = it failed while running."""
    from openrlhf_ext.search.request import SearchRequest, check

    place = Place.of(args)
    problems = setting_problems(args) + engine_problems(args, place.device, place.gpus)
    value_device, more = _value_device(args, place.device, place.gpus)
    request = SearchRequest(
        asked=replace(suite_request(args, [args.policy]), samples=1),
        value=args.value,
        beams=tuple(args.beams),
        best_of=tuple(args.best_of),
        samples=args.samples,
        max_steps=args.max_steps,
        enough=args.enough,
        step_tokens=args.step_tokens,
        delimiters=unescaped(args.delimiters),
        temperature=args.temperature,
        greedy=not args.no_greedy,
        precision=place.precision,
    )
    checked, found = check(request, place.device)
    problems += more + found
    if errors(problems) or checked is None:
        return refuse(problems)
    remark(problems)
    return _run(checked, args, place, value_device)


def _value_device(args: argparse.Namespace, device: str, gpus: int) -> tuple[str, list[Problem]]:
    """Where values are read, and what is wrong with that."""
    found = below_one([("value-workers", args.value_workers), ("value-batch-tokens", args.value_batch_tokens)])
    taken = args.engines * args.tensor_parallel_size if device == "cuda" else 0
    left = gpus - taken
    if device == "cuda" and joined_by(args):  # only the cluster knows how many there are
        return ("cuda" if args.value_device == "auto" else str(args.value_device)), found
    if args.value_device == "cuda" and left < args.value_workers:
        what = f"{args.value_workers} value workers, {max(left, 0)} of {gpus} GPUs left beside the engines"
        return "cuda", [*found, Problem("--value-device", what, "fewer engines or workers, or --value-device cpu")]
    if args.value_device != "auto":
        return str(args.value_device), found
    return ("cuda" if device == "cuda" and left >= args.value_workers else "cpu"), found


def _run(checked: Checked, args: argparse.Namespace, place: Place, value_device: str) -> int:
    from openrlhf_ext.search.run import ValueOptions, search

    def work() -> str:
        values = ValueOptions(value_device, args.value_workers, args.value_batch_tokens)
        report = search(checked, engine_options(args, place), values)
        return f"{report.text}\nanswers and figures: {args.out}"

    return carry_out(work, f"what is answered is in {args.out}")
