"""Configurations as records: flattened, compared, and without their secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from openrlhf_ext.record.rows import is_run

SECRETS = {"key", "api_key", "token", "hf_token", "access_token", "secret", "password"}


def flatten(values: object, prefix: str = "") -> dict[str, object]:
    """A nested mapping as one level of dotted keys."""
    if not isinstance(values, Mapping):
        return {prefix: values} if prefix else {}
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def read_flat(path: Path) -> dict[str, object]:
    """A recorded configuration (`config.yaml` of a run) by dotted keys; empty where there is none."""
    return flatten(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def runs_with(key: str, paths: Iterable[Path]) -> list[Path]:
    """The runs among the paths and the folders in them whose configuration has this dotted key."""
    inside = (folder for path in paths for folder in ([path] if is_run(path) else sorted(path.iterdir())))
    runs = (folder for folder in inside if folder.is_dir() and is_run(folder))
    return [folder for folder in runs if key in read_flat(folder / "config.yaml")]


def is_secret(name: str) -> bool:
    """Whether an option or configuration key names something that must not be written into a record (an API key, a password)."""
    return name.lower().lstrip("-").split(".")[-1] in SECRETS


def without_secrets(argv: Sequence[str]) -> list[str]:
    """The command line with the value after every option that names a key, token, secret or password left out."""
    shown, hide = [], False
    for word in argv:
        name, equals, _ = word.partition("=")
        secret = word.startswith("--") and is_secret(name)
        shown.append("..." if hide else f"{name}=..." if secret and equals else word)
        hide = secret and not equals
    return shown


def masked(config_text: str) -> str:
    """The YAML text with the values of keys that name a secret left out."""

    def hide(found: re.Match[str]) -> str:
        secret = is_secret(found["key"]) and found["value"] not in ("null", "~", "''", '""')
        return f"{found['indent']}{found['key']}: '...'" if secret else found[0]

    return re.sub(r"^(?P<indent>\s*)(?P<key>[\w.-]+):[ \t]+(?P<value>\S.*)$", hide, config_text, flags=re.MULTILINE)


def config_changes(path: Path, config_yaml: str) -> dict[str, list[object]]:
    """Dotted keys whose value differs between the configuration on disk and the new one: {key: [old, new]}."""
    if not path.exists():
        return {}
    old, new = read_flat(path), flatten(yaml.safe_load(config_yaml))
    return {
        key: [old.get(key), new.get(key)] for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    }
