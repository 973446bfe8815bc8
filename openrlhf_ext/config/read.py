"""Read settings, each with the place it came from: a line of a YAML file or the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from openrlhf_ext.config.problem import ConfigError, Problem


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of YAML 1.2: ``1e-6`` is a number, ``1:30`` is text."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+.0123456789"),
)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _loader, node: int(node.value))


@dataclass(frozen=True)
class Setting:
    """One assignment."""

    key: str
    value: object
    origin: str
    """``grpo.yaml line 12`` or ``command line``."""


def read_file(path: str) -> list[Setting]:
    """Settings of a YAML file, nested sections flattened to dotted keys.

    Raises:
        ConfigError: no such file, not YAML, not a mapping, or one key given twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return []
            settings = list(_walk(loader, root, "", path))
        finally:
            loader.dispose()
    except OSError as error:
        raise ConfigError(
            [Problem("--config", f"cannot read {path}: {error.strerror}", "give the path of a YAML file")]
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(path, f"not valid YAML: {error}", "correct the file")]) from error
    first: dict[str, Setting] = {}
    twice = [s for s in settings if first.setdefault(s.key, s) is not s]
    if twice:
        raise ConfigError(
            Problem(s.origin, f"{s.key} was already set at {first[s.key].origin}", "keep one of the two") for s in twice
        )
    return settings


def read_overrides(overrides: Sequence[tuple[str, str]]) -> list[Setting]:
    """Settings of the command line; the last of equal keys counts."""
    return list({key: Setting(key, value, "command line") for key, value in overrides}.values())


def parse_yaml_value(text: str) -> object:
    """One YAML scalar or flow list; text that is not YAML stays text."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return text


def _walk(loader: yaml.SafeLoader, node: yaml.Node, prefix: str, path: str) -> Iterator[Setting]:
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        raise ConfigError([Problem(f"{path} line {line}", "expected `key: value` pairs", "see examples/configs")])
    for key_node, value_node in node.value:
        key = f"{prefix}{loader.construct_object(key_node, deep=True)}"
        if isinstance(value_node, yaml.MappingNode) and value_node.value:
            yield from _walk(loader, value_node, f"{key}.", path)
        else:
            yield Setting(
                key,
                loader.construct_object(value_node, deep=True),
                f"{Path(path).name} line {key_node.start_mark.line + 1}",
            )
