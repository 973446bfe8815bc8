"""`openrlhf-ext prepare WHAT`: one thin module per command.

A module has HELP, EXAMPLE, `add_arguments(parser)` and `run(args)`, which prints what it wrote and raises ValueError where the
request is wrong. To add a command, write such a module and name it in COMMANDS.
"""

import argparse
import sys
from importlib import import_module

COMMANDS: dict[str, str] = {
    "game24-puzzles": "game24_puzzles",
    "game24-traces": "game24_traces",
    "chain": "chain",
    "household": "household",
    "label-toy": "label_toy",
    "prompts": "prompts",
    "sft": "sft",
    "pairs": "pairs",
    "programs": "programs",
    "reverse-curriculum": "reverse_curriculum",
    "tiny-model": "tiny_model",
}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Registers `prepare` with its commands; the parsed arguments carry `func(args) -> exit code`."""
    parser = subparsers.add_parser(
        "prepare",
        help="build data and small models",
        epilog="example: openrlhf-ext prepare game24-puzzles --out data/game24",
    )
    commands = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, module_name in COMMANDS.items():
        module = import_module(f"openrlhf_ext.prepare.{module_name}")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            epilog=f"example:\n  openrlhf-ext prepare {name} {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(func=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Runs one command: 0 = done, 2 = the request was wrong and nothing was written, 1 = it failed while running."""
    module = import_module(f"openrlhf_ext.prepare.{COMMANDS[args.what]}")
    try:
        module.run(args)
    except ValueError as error:
        for line in str(error).split("\n"):
            print(f"error: {line}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
