"""`openrlhf-ext evaluate`: models or a server on a suite of held-out problems."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.config.problem import Problem, errors, notes
from openrlhf_ext.tasks.options import did_you_mean

if TYPE_CHECKING:
    from openrlhf_ext.evaluate.request import Checked

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
    what.add_argument("--data", metavar="PATH", help="file, or directory of SPLIT.jsonl")
    what.add_argument("--split", metavar="S", help="part of the data")
    what.add_argument("--limit", type=int, metavar="N", help="only the first N problems")
    what.add_argument("--template", metavar="T", help="plain, alpaca or chat")
    what.add_argument("--max-new-tokens", type=int, metavar="N", help="longest answer in tokens")
    what.add_argument(
        "--samples", type=int, metavar="K", help="sampled answers per problem for pass@K; 1 = greedy only"
    )
    what.add_argument("--sample-rows", type=int, metavar="R", help="pass@K over the first R problems; 0 = all")
    what.add_argument("--temperature", type=float, metavar="T", help="of the sampled answers")
    what.add_argument("--top-p", type=float, metavar="P", help="of the sampled answers")
    what.add_argument("--seed", type=int, default=42, help="of the sampled answers (default 42)")
    _engine_options(parser)
    server = parser.add_argument_group("server")
    server.add_argument("--endpoint-model", metavar="NAME", help="which of the server's models")
    server.add_argument("--concurrency", type=int, default=16, metavar="N", help="requests at once (default 16)")
    server.add_argument("--request-timeout", type=float, default=120.0, metavar="S", help="seconds (default 120)")
    server.add_argument(
        "--retries", type=int, default=5, metavar="N", help="attempts after a failure that may pass (default 5)"
    )
    return parser


def _engine_options(parser: argparse.ArgumentParser) -> None:
    engine = parser.add_argument_group("engines")
    engine.add_argument(
        "--engines", type=int, default=1, metavar="N", help="engines that share the problems (default 1)"
    )
    engine.add_argument("--tensor-parallel-size", type=int, default=1, metavar="N", help="GPUs per engine (default 1)")
    engine.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    engine.add_argument(
        "--precision",
        choices=("auto", "float32", "bf16", "fp16"),
        default="auto",
        help="auto = float32 on CPU, bf16 on GPU",
    )
    engine.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads per engine (default: the cores shared among them)"
    )
    engine.add_argument(
        "--kv-cache-gib", type=int, default=1, metavar="N", help="key/value cache per engine on CPU (default 1)"
    )
    engine.add_argument("--gpu-memory-utilization", type=float, default=0.9, metavar="X", help="default 0.9")
    engine.add_argument(
        "--wave", type=int, default=256, metavar="N", help="answers asked for at once, and kept together (default 256)"
    )
    engine.add_argument(
        "--engine-timeout", type=float, default=900.0, metavar="S", help="seconds for an engine to start (default 900)"
    )
    engine.add_argument(
        "--wave-timeout", type=float, default=3600.0, metavar="S", help="seconds for one wave (default 3600)"
    )
    engine.add_argument(
        "--ray-address", default="auto", metavar="A", help="auto = RAY_ADDRESS, else a session of its own; local"
    )


def run(args: argparse.Namespace) -> int:
    """0 = done, 2 = the request was wrong, 1 = it failed while running."""
    from openrlhf_ext.cluster import Cluster, visible_gpus
    from openrlhf_ext.evaluate.request import Request, check_request

    machine = Cluster.local()
    device = machine.device if args.device == "auto" else args.device
    problems = _setting_problems(args) + _number_problems(args) + _device_problems(args, device, len(visible_gpus()))
    request = Request(
        suite=args.suite,
        out=Path(args.out),
        models=tuple(args.model or ()),
        endpoint=args.endpoint,
        endpoint_model=args.endpoint_model,
        task={key.removeprefix("task."): value for key, value in args.settings if key.startswith("task.")},
        data=args.data,
        split=args.split,
        template=args.template,
        limit=args.limit,
        max_new_tokens=args.max_new_tokens,
        samples=args.samples,
        sample_rows=args.sample_rows,
        temperature=args.temperature,
        top_p=args.top_p,
        seed=args.seed,
        wave=args.wave,
        resume=args.resume,
    )
    checked, found = check_request(request, device)
    problems += found
    if errors(problems) or checked is None:
        return _refuse(errors(problems))
    for note in notes(problems):
        print(f"note: {note.where}: {note.what}", file=sys.stderr)
    return _run(checked, args, device, int(machine.cpus))


def _run(checked: Checked, args: argparse.Namespace, device: str, cores: int) -> int:
    from openrlhf_ext.config.device import precision_of
    from openrlhf_ext.evaluate.options import EngineOptions, ServerOptions
    from openrlhf_ext.evaluate.run import run_checked

    engine_options = EngineOptions(
        device=device,
        precision=precision_of(args.precision, device),
        count=args.engines,
        tensor_parallel_size=args.tensor_parallel_size,
        threads=args.threads or max(1, cores // args.engines),
        kv_cache_gib=args.kv_cache_gib,
        gpu_memory_utilization=args.gpu_memory_utilization,
        ray_address=args.ray_address,
        wave=args.wave,
        seed=args.seed,
        start_timeout=args.engine_timeout,
        wave_timeout=args.wave_timeout,
    )
    server_options = ServerOptions(args.concurrency, args.request_timeout, args.retries)
    try:
        report = run_checked(checked, Path(args.out), engine_options, server_options)
    except KeyboardInterrupt:
        print(f"stopped; what is graded is in {args.out}; go on: the same command with --resume", file=sys.stderr)
        return 1
    except Exception as failure:
        print(_explain(failure), file=sys.stderr)
        print(f"what is graded is in {args.out}; go on: the same command with --resume", file=sys.stderr)
        return 1
    print(report.text)
    starts = f" (models: {len(report.summaries)}, engine starts: {report.engine_starts})" if args.model else ""
    print(f"answers and figures: {args.out}{starts}")
    return 0


def _explain(failure: Exception) -> str:
    """The worker's own error first, then where its output is."""
    cause = getattr(failure, "cause", None)  # Ray wraps what a worker raised
    lines = [f"failed: {type(failure).__name__}: {failure}"]
    if cause is not None:
        lines = [f"failed in the engine: {type(cause).__name__}: {cause}", "", str(failure)]
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        from openrlhf_ext.session import log_directory

        lines.append(f"workers' output: {log_directory()}")
    return "\n".join(lines)


def _setting_problems(args: argparse.Namespace) -> list[Problem]:
    """Only `--task.*` settings belong here; anything else is a misspelt option."""
    options = [f"--{name.replace('_', '-')}" for name in vars(args) if name not in ("command", "settings")]
    return [
        Problem(f"--{key}", "no such option", did_you_mean(f"--{key}", [*options, "--task.name"]))
        for key, _ in args.settings
        if not key.startswith("task.")
    ]


def _number_problems(args: argparse.Namespace) -> list[Problem]:
    least_one = ("engines", "tensor_parallel_size", "wave", "concurrency", "kv_cache_gib")
    found = []
    for name in (*least_one, "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            found.append(Problem(f"--{name.replace('_', '-')}", f"{value}", "give 1 or more"))
    for name in ("engine_timeout", "wave_timeout", "request_timeout"):
        if not getattr(args, name) > 0:
            found.append(Problem(f"--{name.replace('_', '-')}", f"{getattr(args, name)} seconds", "give more than 0"))
    if args.retries < 0:
        found.append(Problem("--retries", f"{args.retries}", "give 0 or more"))
    return found


def _device_problems(args: argparse.Namespace, device: str, gpus: int) -> list[Problem]:
    """More GPUs than this machine has; a cluster's are only known after joining it."""
    wanted = args.engines * args.tensor_parallel_size
    if device == "cpu" and args.tensor_parallel_size > 1:
        what = f"{args.tensor_parallel_size} GPUs per engine, but the engines run on the CPU"
        return [Problem("--tensor-parallel-size", what, "leave it out")]
    joins = os.environ.get("RAY_ADDRESS") if args.ray_address == "auto" else args.ray_address != "local"
    if device == "cuda" and args.model and not joins and wanted > gpus:
        what = f"{args.engines} engines x {args.tensor_parallel_size} GPUs, this machine has {gpus}"
        return [Problem("--engines", what, "fewer engines, --device cpu, or RAY_ADDRESS of a cluster")]
    return []


def _refuse(problems: Sequence[Problem]) -> int:
    count = len(problems)
    print(f"{count} problem{'s' if count != 1 else ''}, nothing was started:", file=sys.stderr)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 2
