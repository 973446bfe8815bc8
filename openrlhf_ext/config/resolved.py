"""A request with every value decided: typed access, OpenRLHF's arguments, the YAML that gives the same run again."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from openrlhf_ext.config.knobs import OFFLINE_METHODS, PREFERENCE_METHODS, PROGRAM_OF_METHOD, Knob, knobs
from openrlhf_ext.config.schema import (
    Evaluation,
    Grpo,
    Kto,
    Oreo,
    Preference,
    ReverseCurriculum,
    Rllr,
    Run,
    SelfExplore,
    TaskOptions,
)
from openrlhf_ext.upstream.cli import parse

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

LOCAL_PATHS = (
    "actor.model_name_or_path",
    "critic.model_name_or_path",
    "model.model_name_or_path",
    "ref.model_name_or_path",
)
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
    reverse_curriculum: ReverseCurriculum
    oreo: Oreo
    evaluation: Evaluation
    rllr: Rllr
    preference: Preference = field(default_factory=Preference)
    self_explore: SelfExplore = field(default_factory=SelfExplore)
    kto: Kto = field(default_factory=Kto)

    @property
    def program(self) -> str:
        """OpenRLHF's program whose options ``values`` holds."""
        return PROGRAM_OF_METHOD[self.method]

    @property
    def offline(self) -> bool:
        """Does it train on stored trajectories, without engines?"""
        return self.method in OFFLINE_METHODS

    @property
    def preferences(self) -> bool:
        """Does it train on preferences?"""
        return self.method in PREFERENCE_METHODS

    @property
    def has_critic(self) -> bool:
        """Generalised advantage estimation is what needs a value of every state; OREO's value network is the critic too."""
        return self.text("algo.advantage.estimator") == "gae"

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

    def own_key(self, leaf: str) -> str:
        """``leaf`` in the namespace of the method: ``reverse_curriculum.max_steps``."""
        return f"{self.method.replace('-', '_')}.{leaf}"

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
        plain = {k: v for k, v in flatten(self.values).items() if k not in DERIVED and k not in SECRET}
        plain["run.device"], plain["run.precision"] = self.device, self.precision
        return f"# openrlhf-ext train {self.method}\n" + yaml.safe_dump(
            nest(plain), sort_keys=True, allow_unicode=True, width=120
        )


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


def nest(flat: dict[str, object]) -> dict:
    """``{"a.b": 1}`` -> ``{"a": {"b": 1}}``."""
    root: dict = {}
    for key, value in flat.items():
        *path, leaf = key.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    return root


def flatten(nested: dict, prefix: str = "") -> dict[str, object]:
    """The inverse of ``nest``."""
    flat: dict[str, object] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
