"""The reward models of RLLR before a run: folders, heads, tokenizers, and what is known about their scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.config.load import Resolved
from openrlhf_ext.config.problem import Problem
from openrlhf_ext.memory import ModelShape
from openrlhf_ext.preflight_model import companion_problems, model_folder, model_key
from openrlhf_ext.record.reward_scale import FILE, RewardScale, read_scale

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MEASURE = "openrlhf-ext score --model {model} --pairs HELD_OUT_PAIRS --save"


def reward_model_problems(resolved: Resolved, policy: ModelShape | None, *, elsewhere: bool = False) -> list[Problem]:
    """What is wrong with the models that the arm scores with; nothing for other methods."""
    if resolved.method != "rllr":
        return []
    problems: list[Problem] = []
    for role in resolved.rllr.models:
        key = f"rllr.{role}_model"
        problems += companion_problems(resolved, key, f"{role} reward model", policy, elsewhere=elsewhere)
        folder = Path(resolved.text(key))
        if not resolved.text(key) or not (folder / "config.json").is_file():
            continue
        if not _has_head(folder):
            what = f"{folder} has no value head, so it scores nothing"
            problems.append(Problem(resolved.where(key), what, "the model folder of a run of train rm"))
        try:
            problems += _scale_problems(resolved, role, folder, read_scale(folder))
        except ValueError as error:
            problems.append(Problem(resolved.where(key), str(error), _MEASURE.format(model=folder)))
    return problems


def _has_head(folder: Path) -> bool:
    """OpenRLHF writes the name of the head into the config of a reward model."""
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return "value_head_prefix" in content


def _scale_problems(resolved: Resolved, role: str, folder: Path, scale: RewardScale | None) -> Iterator[Problem]:
    """tau and standardisation speak about the scores of this very model."""
    options, key = resolved.rllr, f"rllr.{role}_model"
    wants_tau = role == "label" and options.reward == "mixed" and options.tau is None
    if scale is None:
        if wants_tau or options.standardise:
            what = f"{folder} has no {FILE}, and " + (
                "rllr.tau is not set" if wants_tau else "rllr.standardise needs the mean and deviation of its scores"
            )
            fix = _MEASURE.format(model=folder) + (", or --rllr.tau T" if wants_tau else "")
            yield Problem(resolved.where(key), what, fix)
        return
    if options.standardise and not scale.std > 0:
        yield Problem(resolved.where(key), f"its scores on {scale.pairs} pairs are all the same", "train it again")
    if scale.accuracy < 0.5:
        what = f"ranks {scale.accuracy:.0%} of {scale.pairs} held-out pairs rightly: worse than a coin"
        yield Problem(resolved.where(key), what, "look at its training and at its pairs", note=True)
    if role == "label" and options.reward == "mixed" and options.tau is not None and options.tau >= scale.highest:
        what = f"{options.tau:g} is beyond every score of {scale.pairs} right answers (highest {scale.highest:.3g}): it caps nothing"
        yield Problem(resolved.where("rllr.tau"), what, f"about {scale.tau:.3g}, or leave it out", note=True)


def reward_tokenizer_problems(resolved: Resolved) -> list[Problem]:
    """Do the reward models read the policy's token ids as the same text? Loads tokenizers (seconds)."""
    folder = model_folder(resolved)
    if resolved.method != "rllr" or folder is None:
        return []
    wanted = _tokenizer(folder)
    problems = []
    for role in resolved.rllr.models:
        key = f"rllr.{role}_model"
        own = Path(resolved.text(key))
        if not own.is_dir() or wanted is None:
            continue
        found = _tokenizer(own)
        difference = "it has none" if found is None else _difference(wanted, found)
        if difference:
            what = f"its tokenizer is not that of {resolved.text(model_key(resolved))}: {difference}"
            fix = "a reward model that was trained from the same start model, so that it reads the same token ids"
            problems.append(Problem(resolved.where(key), what, fix))
    return problems


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _difference(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> str:
    """The first difference that would make a token id mean something else; empty where there is none."""
    ours, theirs = one.get_vocab(), other.get_vocab()
    changed = sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token))
    if changed:
        token = changed[0]
        return f"{len(changed)} tokens differ, such as {token!r}: {ours.get(token)} there, {theirs.get(token)} here"
    if one.eos_token_id != other.eos_token_id:
        return f"answers end with token {one.eos_token_id} there, with {other.eos_token_id} here"
    return ""
