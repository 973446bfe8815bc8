"""Preferences before a run: every row with the model's tokenizer, what is left out, what cannot be compared, and a cache made by another model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.config.load import Resolved
from openrlhf_ext.config.problem import Problem
from openrlhf_ext.data.pair_options import PairOptions, encode_source, encoding_of, read_source
from openrlhf_ext.data.pairs import SUFFIXES, Finding, PairRows, files_of
from openrlhf_ext.data.step_preference import texts_of
from openrlhf_ext.data.unpaired import read_responses
from openrlhf_ext.memory import ModelShape
from openrlhf_ext.methods.preference import pair_options
from openrlhf_ext.preflight_model import model_folder, model_key
from openrlhf_ext.preflight_tokens import round_trip_problems, special_problems

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TRAIN, _HELD_OUT = "data.dataset", "eval.dataset"


@dataclass(frozen=True)
class Preferences:
    """How many rows are trained on, where that is known, and what was found."""

    rows: int | None
    problems: list[Problem]


def read_preferences(resolved: Resolved, model: ModelShape | None, *, elsewhere: bool = False) -> Preferences:
    """Read the training and held-out preferences as the run will read them.

    ``elsewhere``: the run is meant for other machines, so a file that is not here is only remarked on.
    """
    tokenizer, problems = _tokenizer(resolved, model)
    options = pair_options(resolved)
    if tokenizer is not None and options.bos and tokenizer.bos_token_id is None:
        what = "the tokenizer has no begin token"
        problems.append(Problem(resolved.where("preference.bos"), what, "leave it out"))
        tokenizer = None
    read = _responses if resolved.method == "kto" else _pairs
    train, found = read(resolved, _TRAIN, options, tokenizer, elsewhere)
    held_out, more = read(resolved, _HELD_OUT, options, tokenizer, elsewhere)
    shared = set(train or ()) & set(held_out or ())
    if shared:
        what = f"{len(shared)} of its {len(held_out or ())} rows are also training rows"
        more.append(Problem(_HELD_OUT, what, "held-out rows must not be trained on", note=True))
    return Preferences(None if train is None else len(train), [*problems, *found, *more])


Seen = tuple[str, ...]
"""What tells rows apart: the texts or ids of a row."""


def _tokenizer(resolved: Resolved, model: ModelShape | None) -> tuple[PreTrainedTokenizerBase | None, list[Problem]]:
    folder, where = model_folder(resolved), resolved.where(model_key(resolved))
    if folder is None or util.find_spec("transformers") is None:
        missing = "the model is" if folder is None else "transformers is"
        what = f"{missing} not here: lengths and tokens of the preferences are not checked"
        return None, [Problem("tokenizer", what, "", note=True)] if resolved.text(model_key(resolved)) else []
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, [
            Problem(where, f"its tokenizer does not load: {error}", "save the tokenizer beside the model again")
        ]
    if not tokenizer.is_fast or resolved.flag("data.disable_fast_tokenizer"):
        what = "pairs are cut at exact tokens, for which a fast tokenizer is needed"
        return None, [Problem(where, what, "save a fast tokenizer, and leave data.disable_fast_tokenizer out")]
    found = list(special_problems(where, tokenizer, model))
    if (
        resolved.flag("data.apply_chat_template")
        and not tokenizer.chat_template
        and not resolved.text("data.tokenizer_chat_template")
    ):
        what = "the tokenizer has no chat template"
        found.append(
            Problem(resolved.where("data.apply_chat_template"), what, "leave it out and use data.input_template")
        )
    return (None if any(not problem.note for problem in found) else tokenizer), found


def _pairs(
    resolved: Resolved, key: str, options: PairOptions, tokenizer: PreTrainedTokenizerBase | None, elsewhere: bool
) -> tuple[list[Seen] | None, list[Problem]]:
    """What tells the usable pairs apart (None where they cannot be read here), and what is wrong with them."""
    names = resolved.text(key)
    unread = _unread(resolved, key, elsewhere)
    if not names or unread:
        return None, unread
    rows = read_source(names, options, resolved.whole("data.max_samples"))
    problems = _as_problems(rows.findings)
    if rows.errors or tokenizer is None:
        return None, problems
    data = encode_source(rows, options, tokenizer, names)  # type: ignore[arg-type]
    problems += _as_problems(data.findings)
    problems += _round_trip(resolved, rows, options, tokenizer)
    problems += _begin(resolved, [pair.prompt for pair in data.pairs], tokenizer)
    if options.with_rest and not data.errors:
        without = sum(not pair.rest for pair in rows.pairs)
        if without:
            what = f"{without} of {len(rows.pairs)} wrong solutions end with the rejected step: it stands alone"
            problems.append(Problem(names, what, "", note=True))
    return [(str(p.prompt), str(p.chosen), str(p.rejected)) for p in data.pairs], problems


def _round_trip(
    resolved: Resolved, rows: PairRows, options: PairOptions, tokenizer: PreTrainedTokenizerBase
) -> Iterator[Problem]:
    encoding = encoding_of(options, tokenizer)  # type: ignore[arg-type]
    texts = []
    for pair in rows.pairs[:: max(1, len(rows.pairs) // 100)]:
        prompt, chosen, rejected = texts_of(pair, encoding)
        texts += [(pair.place, prompt, chosen), (pair.place, prompt, rejected)]
    yield from round_trip_problems(resolved.where(model_key(resolved)), texts, tokenizer)


def _begin(resolved: Resolved, prompts: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase) -> Iterator[Problem]:
    """A tokenizer that begins every text by itself: OpenRLHF switches that off, in SFT and PPO as well."""
    begin = tokenizer.bos_token_id
    if begin is None or tokenizer("a")["input_ids"][:1] != [begin]:
        return
    without = sum(prompt[:1] != [begin] for prompt in prompts)
    if without:
        what = f"{without} of {len(prompts)} prompts do not begin with {tokenizer.bos_token}, which this tokenizer writes by itself"
        fix = "--preference.bos true, if the model was fine-tuned with it"
        yield Problem(resolved.where("preference.bos"), what, fix, note=True)


def _responses(
    resolved: Resolved, key: str, options: PairOptions, tokenizer: PreTrainedTokenizerBase | None, elsewhere: bool
) -> tuple[list[Seen] | None, list[Problem]]:
    names = resolved.text(key)
    unread = _unread(resolved, key, elsewhere)
    if not names or unread or tokenizer is None:
        return None, unread
    limit = resolved.whole("data.max_samples")
    data = read_responses(names, options, tokenizer, limit=limit, seed=resolved.run.seed)  # type: ignore[arg-type]
    return [(str(row.prompt), str(row.response)) for row in data.responses], _as_problems(data.findings)


def _unread(resolved: Resolved, key: str, elsewhere: bool) -> list[Problem]:
    """Sources that are left to OpenRLHF, or to the machines of the run."""
    found = []
    for path in files_of(resolved.text(key)):
        if path.suffix not in SUFFIXES and resolved.method != "kto":
            what = f"{path} is no jsonl, json or parquet file: OpenRLHF will load it, its rows are not checked here"
            found.append(Problem(resolved.where(key), what, "", note=True))
        elif not path.is_file() and elsewhere:
            found.append(Problem(resolved.where(key), f"no such file here: {path}", "", note=True))
    return found


def _as_problems(findings: list[Finding]) -> list[Problem]:
    return [Problem(*finding) for finding in findings]


def reference_cache_problems(resolved: Resolved) -> Iterator[Problem]:
    """A shared cache whose model is another one. Reads the whole model, so not in a dry run; the rows are compared when training begins."""
    cache, folder = resolved.preference.reference_cache, model_folder(resolved)
    if resolved.preference.reference != "cached" or not cache or folder is None or not Path(cache).is_file():
        return
    from safetensors import safe_open

    from openrlhf_ext.rollout.reference_cache import model_fingerprint

    where = resolved.where("preference.reference_cache")
    with safe_open(cache, framework="np") as stored:
        made_from = stored.metadata() or {}
    if made_from.get("model") != model_fingerprint(folder):
        yield Problem(
            where, f"{cache} was made by another model", "delete the file to compute it again, or name another"
        )
    elif made_from.get("precision") != resolved.precision:
        what = f"{cache} was computed in {made_from.get('precision')}, the run is in {resolved.precision}"
        yield Problem(where, what, "delete the file to compute it again, or name another")
