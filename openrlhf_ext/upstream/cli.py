"""OpenRLHF's command lines, read from the installed source without importing OpenRLHF.

Its four programs keep parser and checks inside ``if __name__ == "__main__"``, whose last statement is ``train(args)``.
That block without its last statement is compiled and executed here, with our arguments. Where OpenRLHF is not
installed, ``flags.json`` (names, types, defaults, choices) stands in for the parser and nothing for the checks.

    python -m openrlhf_ext.upstream.cli --freeze        remakes flags.json from the installed OpenRLHF
"""

from __future__ import annotations

import argparse
import ast
import datetime
import functools
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf_ext.upstream import TESTED

PROGRAMS = {"ppo": "train_ppo_ray", "sft": "train_sft", "rm": "train_rm", "dpo": "train_dpo"}
"""Our name of a program -> its module in ``openrlhf.cli``."""

FROZEN = Path(__file__).with_name("flags.json")
_UNSTABLE = "\0"  # marks a default that contains the time of day


class UpstreamArgumentError(ValueError):
    """Upstream's parser or one of its checks refused the arguments; the message is upstream's."""


@dataclass(frozen=True)
class Option:
    """One option of an upstream program, as argparse knows it.

    ``name`` is the dotted key, ``flag`` what is written on a command line, ``off_flag`` the flag that sets a bool to
    false where upstream has one (Muon's nesterov). ``type`` is "int", "float", "str" or "bool"; a bool takes no value.
    ``default`` is None also where upstream's contains the time of day.
    """

    name: str
    flag: str
    type: str
    default: Any
    choices: tuple[str, ...] | None = None
    nargs: int | str | None = None
    store_true: bool = False
    off_flag: str = ""
    required: bool = False
    help: str = ""


@dataclass(frozen=True)
class Parsed:
    """Nested arguments as upstream's ``train`` wants them, and what upstream printed while checking them."""

    args: argparse.Namespace
    notes: tuple[str, ...]


def installed() -> bool:
    """True where an OpenRLHF can be found; nothing of it is imported."""
    return importlib.util.find_spec("openrlhf") is not None


def parse(program: str, argv: Sequence[str]) -> argparse.Namespace:
    """``parse_with_notes`` without the notes."""
    return parse_with_notes(program, argv).args


def parse_with_notes(program: str, argv: Sequence[str]) -> Parsed:
    """Parse and check ``argv`` as the upstream program would: ``program`` is a key of ``PROGRAMS``.

    Raises:
        UpstreamArgumentError: the parser or one of upstream's checks refused.
    """
    if not installed():
        flat = vars(_frozen_parser(program).parse_args(list(argv)))
        return Parsed(_nested(flat), (f"openrlhf {TESTED} is not installed here: its own checks were not run",))
    printed: list[str] = []
    names = _names(functools.partial(_Parser, argv=argv), datetime.datetime, printed)
    try:
        _run(_block(program)[:-1], program, names)
    except AssertionError as refusal:
        raise UpstreamArgumentError(str(refusal) or "an upstream check failed without a message") from refusal
    except (AttributeError, TypeError, IndexError) as failure:
        raise UpstreamArgumentError(f"upstream's own check of these arguments broke: {failure}") from failure
    return Parsed(names["args"], tuple(printed))


def destinations(program: str) -> dict[str, Option]:
    """Every option of the program by its dotted name, in upstream's order; without help where not installed."""
    if not installed():
        return _frozen()[program]
    names = _names(_Parser, _NoClock(), [])
    _run(_block(program, until="parse_args"), program, names)
    actions = [action for action in names["parser"]._actions if action.dest != "help"]
    options: dict[str, Option] = {}
    for action in actions:
        if action.dest in options:
            options[action.dest] = replace(options[action.dest], off_flag=action.option_strings[0])
        else:
            options[action.dest] = _option(action)
    return options


class _Parser(argparse.ArgumentParser):
    """argparse's parser that takes our arguments, raises instead of exiting, and knows float32."""

    def __init__(self, *args: Any, argv: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})
        self.argv = list(argv)

    def add_argument(self, *flags: Any, **options: Any) -> argparse.Action:
        if "--ds.param_dtype" in flags:
            options["choices"] = [*options["choices"], "float32"]
        return super().add_argument(*flags, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        return super().parse_args(self.argv if args is None else args, namespace)

    def error(self, message: str) -> Any:
        raise UpstreamArgumentError(message)


class _NoClock:
    """Stands for ``datetime`` while defaults are listed: they must not change from minute to minute."""

    def now(self) -> _NoClock:
        return self

    def strftime(self, pattern: str) -> str:
        return _UNSTABLE


def _option(action: argparse.Action) -> Option:
    switch = isinstance(action, argparse._StoreTrueAction)
    unstable = isinstance(action.default, str) and _UNSTABLE in action.default
    default = list(action.default) if isinstance(action.default, tuple) else action.default
    return Option(
        name=action.dest,
        flag=action.option_strings[0],
        type="bool" if switch else getattr(action.type, "__name__", "str"),
        default=None if unstable else default,
        choices=tuple(map(str, action.choices)) if action.choices else None,
        nargs=None if switch else action.nargs,
        store_true=switch,
        required=action.required,
        help=action.help or "",
    )


def source_path(module: str) -> Path:
    """File of a module of the installed OpenRLHF, given below ``openrlhf.``; nothing is imported."""
    spec = importlib.util.find_spec("openrlhf")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("openrlhf is not installed")
    return Path(spec.submodule_search_locations[0], *module.split(".")).with_suffix(".py")


def _block(program: str, until: str | None = None) -> list[ast.stmt]:
    """The statements under ``if __name__ == "__main__"``; with ``until``, those before the call of that name."""
    if program not in PROGRAMS:
        raise ValueError(f"unknown upstream program {program!r}: use one of {', '.join(PROGRAMS)}")
    last = ast.parse(source_path(f"cli.{PROGRAMS[program]}").read_text(encoding="utf-8")).body[-1]
    if not isinstance(last, ast.If) or ast.unparse(last.body[-1]) != "train(args)":
        raise RuntimeError(f"openrlhf.cli.{PROGRAMS[program]} no longer ends in train(args): tested with {TESTED}")
    block = [node for node in last.body if not _imports_hierarchize(node)]
    if until is None:
        return block
    return block[: next(i for i, node in enumerate(block) if f".{until}(" in ast.unparse(node))]


def _imports_hierarchize(node: ast.stmt) -> bool:
    # Its package imports torch and transformers; _names() lends the function from its own file.
    return isinstance(node, ast.ImportFrom) and node.module == "openrlhf.utils.config"


def _run(statements: list[ast.stmt], program: str, names: dict[str, Any]) -> None:
    module = ast.Module(body=statements, type_ignores=[])
    exec(compile(module, f"openrlhf/cli/{PROGRAMS[program]}.py", "exec"), names)


def _names(parser: Callable[..., argparse.ArgumentParser], clock: object, printed: list[str]) -> dict[str, Any]:
    """Everything the lifted block may see."""
    spec = importlib.util.spec_from_file_location("_upstream_config", source_path("utils.config"))
    assert spec is not None and spec.loader is not None
    config = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(config)
    return {
        "argparse": SimpleNamespace(**{**vars(argparse), "ArgumentParser": parser}),
        "datetime": clock,
        "hierarchize": config.hierarchize,
        "print": lambda *words: printed.append(" ".join(map(str, words))),
    }


@functools.cache
def _frozen() -> dict[str, dict[str, Option]]:
    stored = json.loads(FROZEN.read_text(encoding="utf-8"))
    return {
        program: {row["name"]: Option(**{**row, "choices": _tuple(row.get("choices"))}) for row in rows}
        for program, rows in stored["programs"].items()
    }


def _tuple(values: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _frozen_parser(program: str) -> argparse.ArgumentParser:
    types = {"int": int, "float": float, "str": str}
    parser = _Parser(add_help=False)
    for option in _frozen()[program].values():
        common: dict[str, Any] = {"dest": option.name, "default": option.default, "required": option.required}
        if option.type == "bool":
            parser.add_argument(option.flag, action="store_true", **common)
            if option.off_flag:
                parser.add_argument(option.off_flag, action="store_false", dest=option.name)
        else:
            choices = list(option.choices) if option.choices else None
            argparse.ArgumentParser.add_argument(
                parser, option.flag, type=types[option.type], nargs=option.nargs, choices=choices, **common
            )
    return parser


def _nested(flat: Mapping[str, Any]) -> argparse.Namespace:
    """``{"a.b": 1}`` -> ``Namespace(a=Namespace(b=1))``."""
    root = argparse.Namespace()
    for name, value in flat.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            node = vars(node).setdefault(part, argparse.Namespace())
        setattr(node, leaf, value)
    return root


def frozen_text() -> str:
    """Content of ``flags.json`` for the installed OpenRLHF: facts of the interface, none of upstream's sentences."""
    programs = {program: [_row(option) for option in destinations(program).values()] for program in PROGRAMS}
    return json.dumps({"openrlhf": TESTED, "programs": programs}, indent=1) + "\n"


def _row(option: Option) -> dict[str, Any]:
    empty = Option("", "", "", None)
    always = ("name", "flag", "type", "default")
    return {
        key: value
        for key, value in asdict(option).items()
        if key != "help" and (key in always or value != getattr(empty, key))
    }


if __name__ == "__main__":
    if sys.argv[1:] != ["--freeze"]:
        sys.exit("usage: python -m openrlhf_ext.upstream.cli --freeze")
    FROZEN.write_text(frozen_text(), encoding="utf-8")
