"""The command line: parse, check, run. Heavy libraries are imported by the command that needs them, late.

Exit codes: 0 done, 2 the request was wrong (nothing was started or written), 1 it failed while running.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from openrlhf_ext import __version__
from openrlhf_ext.installed import HOW_TO_INSTALL, STACK
from openrlhf_ext.settings import split_settings
from openrlhf_ext.upstream.quiet import known_warnings


class Command(NamedTuple):
    """A sub-command: a module with ``add_parser(subparsers) -> parser`` and ``run(args) -> exit code``.

    With ``settings`` it also takes ``--section.key VALUE`` and finds them in ``args.settings``.
    """

    module: str
    summary: str
    settings: bool = False


COMMANDS: dict[str, Command] = {
    "doctor": Command("openrlhf_ext.doctor", "what this machine can run, what is missing, the exact fix"),
    "prepare": Command("openrlhf_ext.prepare", "build data and small models"),
    "train": Command("openrlhf_ext.train", "train a model by one of the methods", settings=True),
    "merge": Command("openrlhf_ext.merge", "merge a LoRA adapter back into its base"),
    "collect": Command("openrlhf_ext.collect.command", "sample and grade: trajectories", settings=True),
    "explore": Command("openrlhf_ext.explore.command", "first pits of wrong solutions", settings=True),
    "evaluate": Command("openrlhf_ext.evaluate.command", "evaluate models on a suite", settings=True),
    "search": Command("openrlhf_ext.search.command", "value-guided search", settings=True),
    "score": Command("openrlhf_ext.evaluate.score", "diagnostics of reward models on held-out pairs"),
    "grade": Command("openrlhf_ext.grade", "grade given responses, no model needed", settings=True),
    "report": Command("openrlhf_ext.record.report", "one self-contained HTML file of one or more runs"),
    "jobs": Command("openrlhf_ext.jobs", "run several command lines in one process and one Ray session"),
}

NEEDS_THE_STACK = (*STACK, "vllm", "tokenizers", "numpy", "pyarrow")
"""Modules that `pip install -e .` does not bring."""

_EXAMPLE = """\
examples:
  openrlhf-ext doctor
  openrlhf-ext train grpo --config examples/configs/grpo_game24_tiny.yaml --dry-run

`openrlhf-ext COMMAND --help` shows the options and an example of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (None = this process's words) and return its exit code; nothing is raised."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except BrokenPipeError:  # the reader of our output went away, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in NEEDS_THE_STACK:
            traceback.print_exc()
            return 1
        print(
            f"this command needs the training stack; not installed here: {package}\n  fix: {HOW_TO_INSTALL}",
            file=sys.stderr,
        )
        return 2
    except Exception:
        traceback.print_exc()
        return 1


def _run(words: list[str]) -> int:
    name = next((word for word in words if not word.startswith("-")), "")
    parser, subparsers = _parser()
    module: ModuleType | None = None
    settings: list[tuple[str, str]] = []
    for command, (module_name, summary, takes_settings) in COMMANDS.items():
        if command != name:
            subparsers.add_parser(command, help=summary)
            continue
        module = importlib.import_module(module_name)
        chosen = module.add_parser(subparsers)
        if takes_settings:
            words, settings = split_settings(words, chosen._option_string_actions)
    try:
        args = parser.parse_args(words)
    except SystemExit as stop:  # argparse: 0 after --help, 2 after an error
        return stop.code if isinstance(stop.code, int) else 2
    if module is None:
        parser.print_help(sys.stderr)
        return 2
    args.settings = settings
    known_warnings()
    return module.run(args)


def _parser() -> tuple[argparse.ArgumentParser, argparse._SubParsersAction[argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="openrlhf-ext",
        description="Reasoning-RL methods on top of OpenRLHF 0.11.2, on a laptop or a cluster.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"openrlhf-ext {__version__}")
    return parser, parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
