"""Stored trajectories before a run: every row with its model's tokenizer, what is left out, and a cache made by another model."""

from __future__ import annotations

import re
from importlib import util
from pathlib import Path

from openrlhf_ext.config.load import Resolved
from openrlhf_ext.config.problem import Problem
from openrlhf_ext.data.offline import OfflineData
from openrlhf_ext.memory import ModelShape
from openrlhf_ext.preflight_model import model_folder

KEY = "data.prompt_dataset"
_FIXES = {
    "reward": "grade the responses, or declare the scale: --oreo.reward_low, --oreo.reward_high",
    "text": "collect with the tokenizer of actor.model_name_or_path",
    "observation_tokens": "collect with the tokenizer of actor.model_name_or_path",
}


def read_offline_rows(
    resolved: Resolved, model: ModelShape | None, *, elsewhere: bool = False
) -> tuple[OfflineData | None, list[Problem]]:
    """The usable trajectories, and everything wrong with them; None where they cannot be read here."""
    path, where = resolved.text(KEY), resolved.where(KEY)
    if not path:
        return None, []
    if not Path(path).is_file():
        fix = "correct the path; a file of trajectories in jsonl or parquet"
        return None, [Problem(where, f"no such file: {path}", fix, note=elsewhere)]
    if model_folder(resolved) is None or util.find_spec("transformers") is None:
        missing = "the model is" if model_folder(resolved) is None else "transformers is"
        what = f"{missing} not here, so the trajectories were not read: rows, rewards and tokens are not checked"
        return None, [Problem(where, what, "", note=True)]
    from openrlhf_ext.offline_data import load_tokenizer, read_trajectories

    try:
        tokenizer = load_tokenizer(resolved)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fix = "save a fast tokenizer with an end token beside the model"
        return None, [Problem(resolved.where("actor.model_name_or_path"), f"its tokenizer does not load: {error}", fix)]
    try:
        data = read_trajectories(resolved, tokenizer)
    except ValueError as error:
        return None, [_problem(line, where) for line in str(error).splitlines()]
    found = [Problem(where, note.removeprefix(f"{path}: "), "", note=True) for note in data.notes]
    if model is not None and len(tokenizer) > model.vocabulary:
        what = f"the tokenizer has {len(tokenizer)} tokens, the model's embedding {model.vocabulary}"
        fix = "use the tokenizer that belongs to the model"
        found.append(Problem(resolved.where("actor.model_name_or_path"), what, fix))
    return data, found


def _problem(line: str, where: str) -> Problem:
    """A fault of a row as `file:line` and its field, or of the file as a whole."""
    row = re.match(r"(.+?:\d+): (\w[\w.]*): (.*)", line)
    if row:
        return Problem(row[1], f"{row[2]}: {row[3]}", _FIXES.get(row[2], "correct the row, or leave it out"))
    return Problem(where, line, "see docs/oreo.md, Data")


def cache_problems(resolved: Resolved, data: OfflineData) -> list[Problem]:
    """A cache of reference log-probs that was made by another model or on other data. Reads the whole model, so not in a dry run."""
    path = resolved.oreo.reference_cache
    if not path or resolved.oreo.regulariser == "exact" or not Path(path).is_file():
        return []
    from openrlhf_ext.offline_data import reference_fingerprint
    from openrlhf_ext.rollout.reference_cache import StaleCache, read_cache

    try:
        read_cache(path, reference_fingerprint(resolved, data.trajectories))
    except StaleCache as error:
        what, _, fix = str(error).removeprefix(f"{path}: ").partition("; ")
        return [Problem(resolved.where("oreo.reference_cache"), f"{path}: {what}", fix)]
    return []
