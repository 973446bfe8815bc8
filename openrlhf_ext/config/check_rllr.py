"""Rules of RLLR: which reward models its arm needs, and what has no effect beside it. Nothing for other methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from openrlhf_ext.config.problem import Problem

if TYPE_CHECKING:
    from openrlhf_ext.config.load import Resolved

SCORED_BY_MODELS = ("reward.num_", "reward.offload", "train.colocate_critic_reward")
"""Keys without effect where rewards come from the task alone: here they place the reward models."""


def rllr_problems(resolved: Resolved) -> Iterator[Problem]:
    """All problems of the `rllr.` section."""
    if resolved.method != "rllr":
        return
    options, where = resolved.rllr, resolved.where
    for role in ("label", "rationale"):
        key = f"rllr.{role}_model"
        if role in options.models and not resolved.get(key):
            what = f"not set, and the arm {options.reward} scores answers with it"
            yield Problem(key, what, f"--{key} with the model of a run of train rm")
        elif role not in options.models and resolved.get(key):
            yield Problem(where(key), f"has no effect in the arm {options.reward}", "leave it out", note=True)
    for key, arms in {"rllr.tau": ("mixed",), "rllr.weight": ("mixed",), "rllr.standardise": ("mixed",)}.items():
        chosen = resolved.get(key) is not None and not resolved.origins.get(key, "preset").startswith("preset")
        if chosen and options.reward not in arms:
            what = f"has no effect in the arm {options.reward}: there is one score"
            if key != "rllr.standardise" or options.reward == "exact-match" or options.normalise:
                yield Problem(where(key), what, "leave it out", note=True)
    if options.label_model and options.label_model == options.rationale_model and options.reward == "mixed":
        what = "is rllr.label_model too: the reward would be one score counted twice"
        yield Problem(where("rllr.rationale_model"), what, "a model of rationale-sensitive pairs")
    if options.weight < 0:
        yield Problem(where("rllr.weight"), f"{options.weight:g}: better rationales would cost", "0 or more")
    if options.format_penalty < 0:
        what = f"{options.format_penalty:g}: answers without a readable label would be paid for it"
        yield Problem(where("rllr.format_penalty"), what, "0 or more")
    if resolved.get("algo.kl.target"):
        what = "OpenRLHF's controller steers the KL per token; the paper's target is nats per answer"
        yield Problem(where("algo.kl.target"), what, "leave it out, and set rllr.kl_target")
    yield from _kl(resolved)
    if resolved.flag("train.colocate_critic_reward") and _size(resolved, "critic") != _size(resolved, "reward"):
        what = "critic and reward models share GPUs, so they must have equal sizes"
        yield Problem(
            where("reward.num_gpus_per_node"), what, "leave reward.num_nodes and reward.num_gpus_per_node out"
        )
    if resolved.flag("reward.normalize_enable"):
        what = "the models' own constants stay out of the critic and of tau"
        yield Problem(where("reward.normalize_enable"), what, "rllr.normalise or rllr.standardise")


def _kl(resolved: Resolved) -> Iterator[Problem]:
    options, where = resolved.rllr, resolved.where
    beta = resolved.number("algo.kl.init_coef")
    for key, value in (("rllr.kl_target", options.kl_target), ("rllr.kl_horizon", options.kl_horizon)):
        if value is not None and value <= 0:
            yield Problem(where(key), f"{value:g} is not above 0", "6 and 10000 in the paper's code")
    if options.kl_target is None and resolved.explicit("rllr.kl_horizon"):
        yield Problem(where("rllr.kl_horizon"), "has no effect: rllr.kl_target is null", "leave it out", note=True)
    if beta == 0 and options.kl_target is not None and resolved.explicit("rllr.kl_target"):
        what = "has no effect: algo.kl.init_coef is 0, so there is no reference"
        yield Problem(where("rllr.kl_target"), what, "--algo.kl.init_coef 0.2, or leave it out", note=True)
    samples = resolved.whole("rollout.batch_size") * resolved.whole("rollout.n_samples_per_prompt")
    if options.kl_target is not None and 0 < options.kl_horizon <= 0.2 * samples:
        what = f"{options.kl_horizon:g} answers against {samples} of one step: the coefficient could fall to 0 in it"
        yield Problem(where("rllr.kl_horizon"), what, f"well above {samples}")


def _size(resolved: Resolved, name: str) -> tuple[int, int]:
    return resolved.whole(f"{name}.num_nodes"), resolved.whole(f"{name}.num_gpus_per_node")
