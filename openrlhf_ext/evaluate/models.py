"""The models of an evaluation: where they are, what they are called, and which of them can share one engine start."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openrlhf_ext.config.problem import Problem
from openrlhf_ext.memory import ModelShape, read_shape
from openrlhf_ext.preflight_model import CPU_HEAD_SIZES
from openrlhf_ext.record.text import number

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_VOLATILE = (
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
    "_attn_implementation_autoset",
)
"""Keys of config.json that differ between saves of one shape."""


@dataclass(frozen=True)
class Model:
    """A model folder. Models with equal ``engine_key`` have the same shape and tokenizer."""

    name: str
    folder: Path
    shape: ModelShape | None
    engine_key: str
    fingerprint: str
    """Changes when the weight files do."""


def read_models(texts: Sequence[str], device: str) -> tuple[list[Model], list[Problem]]:
    """The models that `--model` names, as FOLDER, NAME=FOLDER or the name of a cached hub model; and what is wrong with them."""
    models: list[Model] = []
    problems: list[Problem] = []
    given = [_split_name(text) for text in texts]
    names = short_names([folder for _, folder in given])
    for (wanted, place), short in zip(given, names, strict=True):
        folder = _folder(place)
        if folder is None:
            problems.append(_absent(place))
            continue
        found = folder_problems(folder, device)
        problems += found
        if not found:
            models.append(Model(wanted or short, folder, read_shape(folder), engine_key(folder), fingerprint(folder)))
    chosen = [wanted or short for (wanted, _), short in zip(given, names, strict=True)]
    for name in sorted({name for name in chosen if chosen.count(name) > 1}):
        problems.append(Problem("--model", f"{name!r} names {chosen.count(name)} models", "give NAME=FOLDER to each"))
    return models, problems


def short_names(folders: Sequence[str]) -> list[str]:
    """A folder-safe name for each: the shortest tail of its path that tells it from the others."""
    tails = [[part for part in Path(folder).parts if part not in ("/", ".", "..")] or ["model"] for folder in folders]
    names = ["-".join(parts[-1:]) for parts in tails]
    for length in range(2, max(map(len, tails), default=1) + 1):
        clashing = {name for name in names if names.count(name) > 1}
        names = ["-".join(tails[i][-length:]) if name in clashing else name for i, name in enumerate(names)]
    return names


def engine_groups(models: Sequence[Model]) -> list[list[Model]]:
    """Models that can be exchanged inside one running engine, in the order in which they were named."""
    groups: dict[str, list[Model]] = {}
    for model in models:
        groups.setdefault(model.engine_key, []).append(model)
    return list(groups.values())


def folder_problems(folder: Path, device: str) -> list[Problem]:
    """Why this folder cannot be served; nothing is loaded."""
    where = f"--model {folder}"
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        return [
            Problem(where, "holds a LoRA adapter, not a model", "openrlhf-ext merge --base M --adapter A --out DIR")
        ]
    if not (folder / "config.json").exists():
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        fix = f"give one of its folders: {', '.join(inside[:6])}" if inside else "give the folder of a saved model"
        return [Problem(where, "no config.json", fix)]
    problems = []
    if not any((folder / file).exists() for file in _TOKENIZER_FILES):
        problems.append(Problem(where, "no tokenizer", "save the tokenizer beside the model"))
    if not _weights(folder):
        problems.append(Problem(where, "no weights (*.safetensors)", "give the folder of a saved model"))
    try:
        shape = read_shape(folder)
        engine_key(folder)
    except (ValueError, OSError, TypeError) as error:
        return [*problems, Problem(where, f"cannot be read: {error}", "save or copy the model again")]
    if device == "cpu" and shape is not None and shape.head_size not in CPU_HEAD_SIZES:
        what = f"attention heads of size {shape.head_size}: vLLM on CPU serves {', '.join(map(str, CPU_HEAD_SIZES))}"
        problems.append(Problem(where, what, "evaluate it on a GPU, or by --endpoint"))
    return problems


def engine_key(folder: Path) -> str:
    """Digest of the shape, the tokenizer and the end tokens: equal where one engine can serve both models."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    generation = _json(folder / "generation_config.json")
    tokenizer_config = _json(folder / "tokenizer_config.json")
    parts = [
        {key: value for key, value in config.items() if key not in _VOLATILE},
        generation.get("eos_token_id"),
        [
            tokenizer_config.get(key)
            for key in ("eos_token", "chat_template", "tokenizer_class", "added_tokens_decoder")
        ],
        _tokenizer(folder),
        # Only safetensors can be put into a running engine.
        None if list(folder.glob("*.safetensors")) else str(folder),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def same_tokenizer(first: Path, second: Path) -> bool:
    """Whether both folders spell texts with the same tokens."""
    ours, theirs = dict(_tokenizers(first)), dict(_tokenizers(second))
    shared = ours.keys() & theirs.keys() & set(_TOKENIZER_FILES)
    return bool(shared) and all(ours[name] == theirs[name] for name in shared)


def fingerprint(folder: Path) -> str:
    """Digest of the weight files' names, sizes and times."""
    return digest([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in _weights(folder)])


def digest(content: object) -> str:
    """16 digits that change when the JSON of ``content`` does."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def describe(model: Model) -> str:
    """For people: name, folder and size."""
    size = f", {number(model.shape.parameters / 1e6)}M parameters" if model.shape else ""
    return f"{model.name} ({model.folder}{size})"


def _tokenizer(folder: Path) -> list[str]:
    """One line per file of ``_tokenizers``."""
    return [f"{name} {digest}" for name, digest in _tokenizers(folder)]


def _tokenizers(folder: Path) -> list[tuple[str, str]]:
    """Digests of the tokenizer's files; padding and truncation of a saved fast tokenizer are a matter of the last call."""
    digests = []
    for name in (*_TOKENIZER_FILES, "merges.txt", "chat_template.jinja", "special_tokens_map.json"):
        path = folder / name
        if not path.is_file():
            continue
        data = path.read_bytes()
        if name == "tokenizer.json":
            fields = {key: value for key, value in json.loads(data).items() if key not in ("padding", "truncation")}
            data = json.dumps(fields, sort_keys=True).encode()
        digests.append((name, hashlib.sha256(data).hexdigest()))
    return digests


def _weights(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")])


def _json(path: Path) -> dict[str, object]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _split_name(text: str) -> tuple[str | None, str]:
    name, equals, folder = text.partition("=")
    if equals and re.fullmatch(r"\w[\w.+-]*", name) and not Path(text).exists():
        return name, folder
    return None, text


def _folder(place: str) -> Path | None:
    """The folder itself, or the snapshot of a hub model that is already in the cache."""
    path = Path(place).expanduser()
    if path.is_dir():
        return path
    if place.count("/") > 1 or place.startswith((".", "/", "~")):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(place, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _absent(place: str) -> Problem:
    parent = Path(place).expanduser().parent
    nearby = sorted(path.parent.name for path in parent.glob("*/config.json")) if parent.is_dir() else []
    fix = (
        f"{parent} has {', '.join(nearby[:6])}"
        if nearby
        else "correct the path; a hub model has to be downloaded first"
    )
    return Problem(f"--model {place}", "no such folder, and no hub model of that name in the cache", fix)
