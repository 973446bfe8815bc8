"""Preset < YAML < command line, merged and checked for names and types."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from openrlhf_ext.config import device as device_rules
from openrlhf_ext.config.knobs import AVAILABLE_METHODS, PROGRAM_OF_METHOD, Knob, closest, knobs
from openrlhf_ext.config.presets import METHOD_DEFAULTS, PRESET_TASKS, PRESETS
from openrlhf_ext.config.problem import ConfigError, Problem
from openrlhf_ext.config.read import Setting, read_file, read_overrides
from openrlhf_ext.config.resolved import DERIVED, Resolved, nest
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
from openrlhf_ext.config.values import coerce, coerce_open

__all__ = ["ConfigError", "Resolved", "load"]

T = TypeVar("T")


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

    preset = str(chosen.get("grpo.preset", chosen.get("self_explore.preset", "none")))
    if str(chosen.get("rllr.preset", "none")) != "none":
        preset = f"rllr-{chosen['rllr.preset']}"
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
        values=nest(values),
        origins=origins,
        run=_view(Run, _section("run", values)),
        task_options=_task_options(values),
        grpo=_view(Grpo, _section("grpo", values)),
        reverse_curriculum=_view(ReverseCurriculum, _section("reverse_curriculum", values)),
        oreo=_view(Oreo, _section("oreo", values)),
        evaluation=_view(Evaluation, _section("evaluation", values)),
        rllr=_view(Rllr, _section("rllr", values)),
        preference=_view(Preference, _section("preference", values)),
        self_explore=_view(SelfExplore, _section("self_explore", values)),
        kto=_view(Kto, _section("kto", values)),
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
        for group in ("ref", "critic", *(("reward",) if method == "rllr" else ())):
            if f"{group}.{leaf}" not in origins:
                values[f"{group}.{leaf}"] = values[f"actor.{leaf}"]
    if method == "rllr" and "critic.model_name_or_path" not in origins:
        role = {"label": "label", "mixed": "label", "rationale": "rationale"}.get(str(values["rllr.reward"]))
        values["critic.model_name_or_path"] = role and values[f"rllr.{role}_model"]
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
