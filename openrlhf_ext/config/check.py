"""Rules between keys: everything that would fail late, or that OpenRLHF 0.11.2 would do without saying so.

Each rule returns problems; ``check`` returns all of them at once. Rules that need files or a tokenizer are in ``preflight``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from openrlhf_ext.config.check_batch import batch_problems
from openrlhf_ext.config.check_offline import offline_problems
from openrlhf_ext.config.check_preference import preference_problems
from openrlhf_ext.config.check_range import range_problems
from openrlhf_ext.config.check_rollout import rollout_problems, without_effect
from openrlhf_ext.config.device import CPU_ONLY, device_problems
from openrlhf_ext.config.problem import ConfigError, Problem, errors, notes

if TYPE_CHECKING:
    from openrlhf_ext.config.load import Resolved

__all__ = ["ConfigError", "Problem", "check", "errors", "notes"]

_SCHEDULERS = (
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "inverse_sqrt",
    "polynomial",
)
"""transformers' schedules that work with the arguments OpenRLHF passes."""


def check(resolved: Resolved) -> list[Problem]:
    """Everything wrong with the values of a request, and remarks (``Problem.note``) on what they will do."""
    values = {key: resolved.get(key) for key in CPU_ONLY if resolved.get(key) is not None}
    found = device_problems(resolved.device, resolved.precision, values, resolved.origins)
    found += _required(resolved)
    found += range_problems(resolved)
    found += _common(resolved)
    if resolved.offline:
        found += offline_problems(resolved)
    elif resolved.preferences:
        found += preference_problems(resolved)
    elif resolved.program == "ppo":
        found += rollout_problems(resolved)
    else:
        found += _program(resolved)
    out_of_range = {problem.where for problem in found}
    found += [p for p in batch_problems(resolved) if p.where not in out_of_range]
    return found if errors(found) else found + _upstream(resolved)


def _required(resolved: Resolved) -> Iterator[Problem]:
    needed = {
        "offline": {
            "actor.model_name_or_path": "a model folder",
            "data.prompt_dataset": "a file of trajectories",
        },
        "sft": {"model.model_name_or_path": "a model folder", "data.dataset": "a JSONL file"},
        "preference": {"model.model_name_or_path": "a model folder", "data.dataset": "a file of preferences"},
        "ppo": {
            "actor.model_name_or_path": "a model folder",
            "data.prompt_dataset": "a JSONL file",
            "task.name": "a task, e.g. game24",
        },
    }["offline" if resolved.offline else "preference" if resolved.preferences else resolved.program]
    for key, example in needed.items():
        if not resolved.get(key):
            yield Problem(key, "not set", f"--{key} with {example}")


def _common(resolved: Resolved) -> Iterator[Problem]:
    template = resolved.text("data.input_template")
    if template:
        fix = "write exactly one {} where the input goes (other braces doubled), or null for none"
        if template.count("{}") != 1 or "{" in template.replace("{}", "").replace("{{", ""):
            yield Problem(resolved.where("data.input_template"), f"{template!r} does not hold exactly one {{}}", fix)
        elif "\\n" in template:
            what = f"{template!r} holds a backslash and an n where a line break is meant"
            yield Problem(resolved.where("data.input_template"), what, 'in YAML use double quotes: "...\\n"')
        if resolved.flag("data.apply_chat_template"):
            what = "a chat template is applied, so OpenRLHF ignores the input template"
            yield Problem(resolved.where("data.input_template"), what, "leave one of the two out")
    for prefix in _optimised(resolved):
        scheduler = resolved.text(f"{prefix}lr_scheduler")
        if scheduler not in _SCHEDULERS:
            what = f"{scheduler!r} is not a schedule that OpenRLHF's arguments fit"
            yield Problem(resolved.where(f"{prefix}lr_scheduler"), what, f"one of {', '.join(_SCHEDULERS)}")
        if resolved.get(f"{prefix}optim") == "muon" and resolved.number(f"{prefix}max_norm") > 0:
            what = (
                "DeepSpeed clips after Muon has normalised its update, which shrinks every step by orders of magnitude"
            )
            yield Problem(resolved.where(f"{prefix}max_norm"), what, f"--{prefix}max_norm 0")
    if resolved.precision == "fp16" and resolved.device == "cpu":
        yield Problem(resolved.where("run.precision"), "fp16 training needs a GPU", "--run.precision float32 (or bf16)")
    if resolved.whole("ds.tensor_parallel_size") > 1 and resolved.precision != "bf16":
        what = f"DeepSpeed's tensor parallel needs bf16, the run is in {resolved.precision}"
        yield Problem(resolved.where("ds.tensor_parallel_size"), what, "--run.precision bf16")
    if resolved.whole("ckpt.save_steps") == -1:
        yield Problem(
            "ckpt.save_steps", "-1: a run that is stopped cannot be resumed", "--ckpt.save_steps N", note=True
        )
    elif resolved.flag("ckpt.disable_ds"):
        what = "checkpoints without the DeepSpeed state cannot be resumed"
        yield Problem(resolved.where("ckpt.disable_ds"), what, "leave it out")
    if resolved.whole("data.max_samples") < 10**6 and resolved.get("eval.dataset") and resolved.program == "ppo":
        what = f"OpenRLHF applies {resolved.whole('data.max_samples')} to eval.dataset too"
        yield Problem("data.max_samples", what, "", note=True)


def _optimised(resolved: Resolved) -> tuple[str, ...]:
    """Where the keys of each optimiser stand."""
    if resolved.program != "ppo":
        return ("",)
    return ("actor.", "critic.") if resolved.has_critic else ("actor.",)


def _program(resolved: Resolved) -> Iterator[Problem]:
    """Rules of the programs without a rollout."""
    whole = resolved.flag("model.pretrain_mode_enable") or resolved.flag("data.multiturn")
    if not resolved.text("data.output_key") and not whole:
        what = "null: OpenRLHF drops every row without an output"
        yield Problem(resolved.where("data.output_key"), what, "--data.output_key output")
    if resolved.flag("data.multiturn") and not resolved.flag("data.apply_chat_template"):
        yield Problem(resolved.where("data.multiturn"), "needs a chat template", "--data.apply_chat_template")
    if resolved.whole("eval.steps") > 0 and not resolved.get("eval.dataset"):
        yield Problem(resolved.where("eval.steps"), "set, but there is no eval.dataset", "--eval.dataset FILE")
    yield from without_effect(resolved, (("ckpt.max_mem", "ckpt.max_num alone limits the checkpoints"),))


def _upstream(resolved: Resolved) -> list[Problem]:
    """OpenRLHF's own validation, asked last: our rules say the same with a fix."""
    from openrlhf_ext.upstream.cli import UpstreamArgumentError

    try:
        resolved.upstream_args()
    except UpstreamArgumentError as error:
        return [Problem("OpenRLHF", str(error), "correct the keys it names")]
    return []
