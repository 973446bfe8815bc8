"""Rules of the methods on preferences (rm, dpo, kto, self-explore): what cannot work there, and keys that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import abspath
from typing import TYPE_CHECKING

from openrlhf_ext.config.check_rollout import without_effect
from openrlhf_ext.config.problem import Problem

if TYPE_CHECKING:
    from openrlhf_ext.config.load import Resolved

_NO_EFFECT: tuple[tuple[str, str], ...] = (
    ("run.keep_rollouts", "nothing is generated"),
    ("run.kv_cache_gib", "there are no engines"),
    ("run.sync_timeout", "there are no engines"),
    ("task.on_error", "nothing is graded"),
    ("ckpt.save_hf", "the final model is saved in Hugging Face form"),
    ("ckpt.max_mem", "ckpt.max_num alone limits the checkpoints"),
    ("data.dataloader_num_workers", "pairs are in memory"),
)
"""Key prefix -> why nothing reads it here."""

_NO_EFFECT_IN_KTO: tuple[tuple[str, str], ...] = (
    ("model.ipo_enable", "the loss is KTO's"),
    ("model.label_smoothing", "the loss is KTO's"),
    ("data.apply_chat_template", "responses stand beside rendered prompts"),
    ("data.input_template", "responses stand beside rendered prompts"),
)


def preference_problems(resolved: Resolved) -> Iterator[Problem]:
    """All problems of the values of a method on preferences."""
    if resolved.whole("eval.steps") > 0 and not resolved.get("eval.dataset"):
        yield Problem(resolved.where("eval.steps"), "set, but there is no eval.dataset", "--eval.dataset FILE")
    if resolved.get("data.dataset_probs"):
        what = "files are read one after the other; mixing by probability is not offered for preferences"
        yield Problem(resolved.where("data.dataset_probs"), what, "mix the rows in one file")
    if resolved.whole("ds.ring_attn_size") > 1 or resolved.flag("ds.packing_samples"):
        key = "ds.packing_samples" if resolved.flag("ds.packing_samples") else "ds.ring_attn_size"
        what = "pairs are padded, with the prompt's end known to the token"
        yield Problem(resolved.where(key), what, "leave it out; --ds.zero_stage 3 spreads the weights")
    if not resolved.text("data.prompt_key"):
        what = "null: the whole text would be the answer, and the prompt would be trained on"
        yield Problem(resolved.where("data.prompt_key"), what, "--data.prompt_key prompt")
    yield from _reference(resolved)
    if resolved.program == "rm":
        yield from _reward_model(resolved)
    else:
        yield from _objective(resolved)
    yield from without_effect(resolved, _NO_EFFECT + (_NO_EFFECT_IN_KTO if resolved.method == "kto" else ()))


def _reference(resolved: Resolved) -> Iterator[Problem]:
    wanted = resolved.preference
    start, reference = resolved.text("model.model_name_or_path"), resolved.text("ref.model_name_or_path")
    other = bool(reference) and abspath(reference) != abspath(start)
    if resolved.program == "rm":
        for key in ("preference.reference", "preference.reference_cache"):
            if resolved.explicit(key):
                yield Problem(resolved.where(key), "a reward model has no reference", "", note=True)
        return
    if wanted.reference == "cached" and other:
        what = f"the reference {reference} is not the start model, whose log-probs are computed before the first update"
        yield Problem(resolved.where("preference.reference"), what, "--preference.reference model")
    if wanted.reference == "model" and wanted.reference_cache is not None:
        what = "has no effect: the reference is a model in memory"
        fix = "--preference.reference cached, or leave it out"
        yield Problem(resolved.where("preference.reference_cache"), what, fix, note=True)


def _reward_model(resolved: Resolved) -> Iterator[Problem]:
    if resolved.whole("ds.lora.rank") > 0:
        what = "OpenRLHF saves the adapter alone: the head that scores, random and frozen beside it, would be lost"
        fix = "--ds.lora.rank 0; to start from LoRA: train sft with it, then openrlhf-ext merge"
        yield Problem(resolved.where("ds.lora.rank"), what, fix)
    if resolved.preference.ends != "both":
        what = f"{resolved.preference.ends}: PPO scores prompt, answer and end token, so both sides need their end"
        yield Problem(resolved.where("preference.ends"), what, "--preference.ends both, or leave it out")
    if resolved.text("model.loss_type") not in ("sigmoid", "logexp"):
        what = f"{resolved.text('model.loss_type')!r}: OpenRLHF takes everything but sigmoid for its log-exp loss"
        yield Problem(resolved.where("model.loss_type"), what, "sigmoid or logexp")
    if not resolved.get("eval.dataset"):
        what = "no held-out pairs: their accuracy and margin will not be known, and scores are normalised by 1% of the training pairs"
        yield Problem("eval.dataset", what, "--eval.dataset FILE", note=True)


def _objective(resolved: Resolved) -> Iterator[Problem]:
    if resolved.flag("model.ipo_enable") and resolved.number("model.label_smoothing") > 0:
        what = "IPO's loss has no label smoothing: OpenRLHF would ignore it"
        yield Problem(resolved.where("model.label_smoothing"), what, "leave one of the two out")
    if resolved.method == "kto" and resolved.number("model.nll_loss_coef") > 0:
        what = "it would also raise the bad responses"
        yield Problem(resolved.where("model.nll_loss_coef"), what, "leave it out")
    if resolved.method == "self-explore" and resolved.self_explore.preset != "none":
        what = "the original's optimiser is RMSprop, which OpenRLHF does not offer: AdamW takes its place"
        yield Problem(resolved.where("self_explore.preset"), what, "", note=True)
