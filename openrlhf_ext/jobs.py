"""``jobs FILE``: several command lines, one after the other, in one process and one Ray session.

What the first job imported and started (this process's libraries, Ray) is there for the next one.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from openrlhf_ext import upstream
from openrlhf_ext.installed import installed_version

_EXAMPLE = """\
example (claim.jobs):
  # one command line each, as after `openrlhf-ext`
  train sft --config examples/configs/sft_game24_tiny.yaml --run.dir runs/claim/sft
  train grpo --config examples/configs/grpo_game24_tiny.yaml --actor.model_name_or_path runs/claim/sft/model

  openrlhf-ext jobs claim.jobs"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the ``jobs`` command."""
    parser = subparsers.add_parser(
        "jobs",
        help="run several command lines in one process and one Ray session",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="one command line per line; # starts a comment")
    parser.add_argument("--keep-going", action="store_true", help="go on after a job that failed")
    return parser


def run(args: argparse.Namespace) -> int:
    """The first exit code that is not 0, else 0; 2 without starting anything where a line is no command."""
    try:
        jobs = read_jobs(args.file)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    from openrlhf_ext.cli import main

    # Before any job: one may import what a later one has to find untouched (a model that `prepare` saves brings DeepSpeed along).
    # Where OpenRLHF is missing or another, the job that needs it says so.
    if installed_version("openrlhf") == upstream.TESTED:
        upstream.install()
    result = 0
    for number, words in enumerate(jobs, start=1):
        print(f"job {number} of {len(jobs)}: {shlex.join(words)}", file=sys.stderr, flush=True)
        started = time.monotonic()
        code = main(words)
        print(f"job {number}: exit code {code} after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        result = result or code
        if code and not args.keep_going:
            break
    return result


def read_jobs(path: Path) -> list[list[str]]:
    """The command lines of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: a line is not a command, or there is none.
    """
    from openrlhf_ext.cli import COMMANDS

    jobs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise ValueError(f"{path} line {number}: {error}") from error
        if words and (words[0] not in COMMANDS or words[0] == "jobs"):
            known = ", ".join(name for name in COMMANDS if name != "jobs")
            raise ValueError(f"{path} line {number}: {words[0]!r} is not a command; one of {known}")
        if words:
            jobs.append(words)
    if not jobs:
        raise ValueError(f"{path}: no command lines")
    return jobs
