"""The trajectories of a request: how its model reads them, the steps of its task, its scale of rewards.

Shared by the checks before a run and by the run itself, so that both see the same rows. Loads transformers late.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.config.load import Resolved
from openrlhf_ext.data.offline import Encoded, OfflineData, Reading, read_offline
from openrlhf_ext.data.outcomes import balanced
from openrlhf_ext.data.steps import split_after
from openrlhf_ext.tasks import make_task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from openrlhf_ext.data.trajectory import Trajectory
    from openrlhf_ext.rollout.reference_cache import Fingerprint


def load_tokenizer(resolved: Resolved) -> PreTrainedTokenizerBase:
    """The policy's tokenizer. Raises what transformers raises, and ValueError where it has no end token."""
    from transformers import AutoTokenizer

    name = resolved.text("actor.model_name_or_path")
    tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{name}: the tokenizer has no end-of-sequence token: set eos_token and save it again")
    return tokenizer


def reading(resolved: Resolved, tokenizer: PreTrainedTokenizerBase) -> Reading:
    """What the rows must satisfy, and how plain rows become tokens and steps."""

    def encode(text: str) -> Encoded:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return Encoded(list(found["input_ids"]), [(int(start), int(end)) for start, end in found["offset_mapping"]])

    oreo = resolved.oreo
    return Reading(
        reward_range=(oreo.reward_low, oreo.reward_high),
        max_length=resolved.whole("data.max_len"),
        vocabulary=len(tokenizer),
        encode=encode,
        end_id=tokenizer.eos_token_id,
        # Without special tokens, as `collect` writes the text: a model that samples <unk> was no other tokenizer's.
        decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
        split=splitter(resolved) if oreo.level == "step" else None,
    )


def splitter(resolved: Resolved) -> Callable[[str], list[str]] | None:
    """How a response is cut into steps: by `oreo.delimiters`, else by the task; None where neither is given."""
    delimiters = resolved.oreo.delimiters
    if delimiters:
        return lambda text: split_after(text, delimiters)
    return make_task(resolved.task).split if resolved.task else None


def read_trajectories(resolved: Resolved, tokenizer: PreTrainedTokenizerBase) -> OfflineData:
    """The usable trajectories of `data.prompt_dataset`, at most `oreo.per_problem` of a kind and problem and `data.max_samples` in all; at
    step level every one knows its steps.

    Raises ValueError with one line per fault, as `file:line: field: what` where it belongs to a row; FileNotFoundError.
    """
    path = resolved.text("data.prompt_dataset")
    data = read_offline(path, reading(resolved, tokenizer))
    chosen, notes = data.trajectories, data.notes
    most = resolved.oreo.per_problem
    if most is not None:
        chosen = balanced(chosen, most=most, success=resolved.oreo.reward_high, seed=resolved.run.seed)
        what = f"at most {most} successes and {most} failures of a problem"
        notes = [*notes, f"{path}: {len(chosen)} of {len(data.trajectories)} trajectories are used: {what}"]
    kept = chosen[: resolved.whole("data.max_samples")]
    without = sum("step_starts" not in row for row in kept) if resolved.oreo.level == "step" else 0
    if without:
        raise ValueError(
            f"{path}: {without} of {len(kept)} trajectories have no step_starts, which the step level needs: name the task or "
            "oreo.delimiters (for plain rows), or collect the trajectories with their steps"
        )
    return OfflineData(kept, data.dropped, notes, data.tokenised)


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What padding holds; nothing reads it."""
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def file_fingerprint(path: str | Path) -> str:
    """SHA-256 of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def reference_path(resolved: Resolved) -> str:
    """The model that log-ratios and KL refer to; absolute where it is a folder here, as workers may start in another one."""
    name = resolved.oreo.reference_model or resolved.text("actor.model_name_or_path")
    return str(Path(name).absolute()) if Path(name).is_dir() else name


def reference_fingerprint(resolved: Resolved, trajectories: Sequence[Trajectory]) -> Fingerprint:
    """What the log-probs of the reference depend on. Reads the whole model."""
    from openrlhf_ext.rollout.reference_cache import Fingerprint, data_fingerprint, model_fingerprint

    name = reference_path(resolved)
    if not Path(name).is_dir():
        from huggingface_hub import snapshot_download

        name = snapshot_download(name)
    return Fingerprint(model_fingerprint(name), data_fingerprint(trajectories), resolved.precision)
