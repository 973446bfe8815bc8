"""Preset < YAML < command line, merged, checked for names and types, and rendered to OpenRLHF's arguments."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from openrlhf_ext.config import device as device_rules
from openrlhf_ext.config.knobs import AVAILABLE_METHODS, PROGRAM_OF_METHOD, Knob, closest, knobs
from openrlhf_ext.config.presets import METHOD_DEFAULTS, PRESET_TASKS, PRESETS
from openrlhf_ext.config.problem import ConfigError, Problem
from openrlhf_ext.config.read import Setting, read_file, read_overrides
from openrlhf_ext.config.schema import Evaluation, Grpo, Run, TaskOptions
from openrlhf_ext.config.values import coerce, coerce_open
from openrlhf_ext.upstream.cli import parse

T = TypeVar("T")

DERIVED: dict[str, str] = {
    "ckpt.output_dir": "it is <run.dir>/model",
    "ckpt.path": "checkpoints are kept in <run.dir>/checkpoints",
    "ckpt.load_enable": "resume with --resume",
    "logger.tensorboard_dir": "it is <run.dir>/tensorboard; switch it with run.tensorboard",
    "reward.remote_url": "rewards come from the task: set task.name and task.*",
    "train.seed": "set run.seed",
    "ds.param_dtype": "set run.precision",
    "local_rank": "launching sets it",
}
"""Keys of OpenRLHF that follow from ours, with what to set instead."""

LOCAL_PATHS = ("actor.model_name_or_path", "critic.model_name_or_path", "model.model_name_or_path")
"""Keys that may name a folder here; workers may start in another folder, so OpenRLHF gets the absolute path."""

SECRET = ("logger.wandb.key",)
"""Keys that are never written to a file."""


@dataclass(frozen=True)
class Resolved:
    """A request with every value decided. ``values`` is nested and holds OpenRLHF's keys and ours."""

    method: str
    device: str
    precision: str
    values: dict
    origins: dict[str, str]
    """Dotted key -> where the user (or a preset) set it; keys at their default are absent."""
    run: Run
    task_options: TaskOptions
    grpo: Grpo
    evaluation: Evaluation

    @property
    def program(self) -> str:
        """OpenRLHF's program whose options ``values`` holds."""
        return PROGRAM_OF_METHOD[self.method]

    @property
    def task(self) -> dict[str, object]:
        """The ``task:`` section as ``tasks.make_task`` takes it."""
        return self.task_options.options

    def get(self, key: str) -> object:
        """The value of a dotted key; None where the method has no such key."""
        node: object = self.values
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return node

    def whole(self, key: str) -> int:
        """The value of a key that holds a whole number."""
        value = self.get(key)
        if not isinstance(value, int):
            raise TypeError(f"{key} holds {value!r}, not a whole number")
        return value

    def number(self, key: str) -> float:
        """The value of a key that holds a number."""
        value = self.get(key)
        if not isinstance(value, (int, float)):
            raise TypeError(f"{key} holds {value!r}, not a number")
        return value

    def number_or_none(self, key: str) -> float | None:
        """The value of a key that holds a number or null."""
        return None if self.get(key) is None else self.number(key)

    def whole_or_none(self, key: str) -> int | None:
        """The value of a key that holds a whole number or null."""
        return None if self.get(key) is None else self.whole(key)

    def numbers(self, key: str) -> list[float]:
        """The value of a key that holds a list of numbers; empty where it is null."""
        value = self.get(key)
        return [float(item) for item in value] if isinstance(value, (list, tuple)) else []

    def flag(self, key: str) -> bool:
        """Whether a switch is on; False where the method has no such key."""
        return bool(self.get(key))

    def text(self, key: str) -> str:
        """The value of a key that holds text; empty where it is null."""
        value = self.get(key)
        return "" if value is None else str(value)

    def explicit(self, key: str) -> bool:
        """Was it set by a preset, a file or the command line?"""
        return key in self.origins

    def where(self, key: str) -> str:
        """The key and where it was set, for messages."""
        return f"{key} ({self.origins[key]})" if key in self.origins else key

    def argv(self) -> list[str]:
        """OpenRLHF's command line, naming what differs from its own defaults."""
        table = knobs(self.method)
        argv: list[str] = []
        for key in sorted(k for k, knob in table.items() if knob.upstream):
            value = self.get(key)
            if key in LOCAL_PATHS and value and Path(str(value)).exists():
                value = str(Path(str(value)).absolute())
            argv += _flag(table[key], value)
        return argv

    def upstream_args(self) -> argparse.Namespace:
        """OpenRLHF's own arguments object, through its parser and validation.

        Raises:
            openrlhf_ext.upstream.cli.UpstreamArgumentError: OpenRLHF refused the values.
        """
        args = parse(self.program, self.argv())
        # Neither is legal on OpenRLHF's command line: float32, and switching off a flag that is on by default.
        args.ds.param_dtype = self.precision
        for key, knob in knobs(self.method).items():
            if knob.upstream and knob.kind == "bool" and knob.default is True and self.get(key) is False:
                section, _, leaf = key.rpartition(".")
                target = args
                for part in section.split("."):
                    target = getattr(target, part)
                setattr(target, leaf, False)
        return args

    def dump(self) -> str:
        """YAML of everything decided; loading it with ``--config`` gives the same run (derived keys and secrets are left out)."""
        plain = {k: v for k, v in _flatten(self.values).items() if k not in DERIVED and k not in SECRET}
        plain["run.device"], plain["run.precision"] = self.device, self.precision
        return f"# openrlhf-ext train {self.method}\n" + yaml.safe_dump(
            _nest(plain), sort_keys=True, allow_unicode=True, width=120
        )


def load(method: str, path: str | None, overrides: Sequence[tuple[str, str]], *, local_device: str = "cpu") -> Resolved:
    """Resolve a request.

    Args:
        method: a ``train`` method.
        path: YAML file, or None.
        overrides: ``(dotted key, text)`` of the command line.
        local_device: what ``run.device: auto`` means here ("cpu" or "cuda").

    Raises:
        ConfigError: with all problems of names, types and choices.
    """
    _check_method(method)
    settings = (read_file(path) if path else []) + read_overrides(overrides)
    table = knobs(method)
    chosen, origins, problems = _choose(settings, table)

    preset = str(chosen.get("grpo.preset", "none"))
    task_name = chosen.get("task.name")
    for key, value in (PRESETS[preset] | _preset_task(preset, task_name)).items():
        if key not in chosen:
            chosen[key], origins[key] = value, f"preset {preset}"

    wanted = str(chosen.get("run.device", "auto"))
    device = local_device if wanted == "auto" else wanted
    precision = device_rules.precision_of(str(chosen.get("run.precision", "auto")), device)

    values: dict[str, object] = {key: knob.default for key, knob in table.items()}
    values |= METHOD_DEFAULTS[method]
    values |= device_rules.defaults(device, precision, set(table))
    values |= chosen
    _follow(method, values, origins)
    values["run.dir"] = values["run.dir"] or _default_dir(method, task_name)
    values["run.wandb"] = bool(values["run.wandb"] or values["logger.wandb.key"])
    problems += _derive(method, values, origins, precision)

    resolved = Resolved(
        method=method,
        device=device,
        precision=precision,
        values=_nest(values),
        origins=origins,
        run=_view(Run, _section("run", values)),
        task_options=_task_options(values),
        grpo=_view(Grpo, _section("grpo", values)),
        evaluation=_view(Evaluation, _section("evaluation", values)),
    )
    if problems:
        raise ConfigError(problems, partial=resolved)
    return resolved


def _check_method(method: str) -> None:
    if method in AVAILABLE_METHODS:
        return
    works = ", ".join(AVAILABLE_METHODS)
    if method in PROGRAM_OF_METHOD or method == "kto":
        raise ConfigError([Problem("METHOD", f"{method} is not available yet in this version", f"available: {works}")])
    raise ConfigError(
        [
            Problem(
                "METHOD", f"there is no method {method!r}", closest(method, AVAILABLE_METHODS) or f"available: {works}"
            )
        ]
    )


def _choose(
    settings: list[Setting], table: Mapping[str, Knob]
) -> tuple[dict[str, object], dict[str, str], list[Problem]]:
    """Typed values of the user's settings, later ones winning, and what was wrong with the others."""
    chosen: dict[str, object] = {}
    origins: dict[str, str] = {}
    problems = []
    for setting in settings:
        where = f"{setting.key} ({setting.origin})"
        try:
            if setting.key in table:
                value = coerce(table[setting.key], setting.value)
            elif setting.key.startswith("task."):
                value = coerce_open(setting.value)
            else:
                fix = closest(setting.key, [*table, "task.name"]) or "see docs/config.md for the keys"
                problems.append(Problem(where, "unknown key", fix))
                continue
        except ValueError as error:
            problems.append(Problem(where, str(error), f"correct the value of {setting.key}"))
            continue
        chosen[setting.key], origins[setting.key] = value, setting.origin
    return chosen, origins, problems


def _preset_task(preset: str, task_name: object) -> dict[str, object]:
    return {f"task.{key}": value for key, value in PRESET_TASKS.get(preset, {}).get(str(task_name), {}).items()}


def _follow(method: str, values: dict[str, object], origins: dict[str, str]) -> None:
    """Keys whose default is another key's value."""
    if PROGRAM_OF_METHOD[method] != "ppo":
        return
    for leaf in ("num_nodes", "num_gpus_per_node"):
        if f"ref.{leaf}" not in origins:
            values[f"ref.{leaf}"] = values[f"actor.{leaf}"]
    if values["rollout.vllm_generate_batch_size"] is None:
        values["rollout.vllm_generate_batch_size"] = values["rollout.batch_size"]


def _derive(method: str, values: dict[str, object], origins: dict[str, str], precision: str) -> list[Problem]:
    """Fill in what follows from our keys; a user's value that says otherwise is a problem."""
    root = Path(str(values["run.dir"])).absolute()
    derived: dict[str, object] = {
        "ckpt.output_dir": str(root / "model"),
        "ckpt.path": str(root / "checkpoints"),
        "ckpt.load_enable": False,
        "logger.tensorboard_dir": str(root / "tensorboard") if values["run.tensorboard"] else None,
        "train.seed": values["run.seed"],
        "ds.param_dtype": precision,
        "local_rank": -1,
    }
    if PROGRAM_OF_METHOD[method] == "ppo":
        derived["reward.remote_url"] = str(Path(__file__).parents[1] / "rollout" / "executor.py")
    problems = []
    for key, value in derived.items():
        if key in origins and values[key] != value:
            what = f"set to {values[key]}, but {DERIVED[key]}"
            problems.append(Problem(f"{key} ({origins[key]})", what, f"leave {key} out"))
        values[key] = value
    if "logger.wandb.run_name" not in origins:
        values["logger.wandb.run_name"] = root.name
    return problems


def _default_dir(method: str, task_name: object) -> str:
    parts = [method, *([str(task_name)] if task_name else []), time.strftime("%Y%m%d-%H%M%S", time.gmtime())]
    return str(Path("runs") / "-".join(parts))


def _section(namespace: str, values: dict[str, object]) -> dict[str, object]:
    """Values below ``namespace.``, without it."""
    prefix = f"{namespace}."
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def _view(kind: Callable[..., T], section: dict[str, object]) -> T:
    """The typed form of a section; its values have been coerced to the fields' types."""
    return kind(**section)


def _task_options(values: dict[str, object]) -> TaskOptions:
    own = _section("task", values)
    on_error = own.pop("on_error")
    return _view(TaskOptions, {"name": own["name"], "on_error": on_error, "options": own if own["name"] else {}})


def _flag(knob: Knob, value: object) -> list[str]:
    """The words that make OpenRLHF's parser hold ``value``."""
    if knob.key == "ds.param_dtype" or value == knob.default:
        return []
    if knob.kind == "bool":
        return [f"--{knob.key}"] if value else []
    if value is None:
        return [f"--{knob.key}="]
    if knob.count is not None and isinstance(value, list):
        return [f"--{knob.key}", *map(_word, value)]
    return [f"--{knob.key}={_word(value)}"]


def _word(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _nest(flat: dict[str, object]) -> dict:
    root: dict = {}
    for key, value in flat.items():
        *path, leaf = key.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    return root


def _flatten(nested: dict, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
