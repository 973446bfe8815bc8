"""`openrlhf-ext merge`: a LoRA adapter back into its base, checked by logits before, after and once more from the written files.

In float32 on the CPU. Nothing appears under --out unless the merged model computes what base + adapter computed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.checkpoint import follow_umask
from openrlhf_ext.config.problem import ConfigError, Problem, refuse
from openrlhf_ext.record.jsonl import disk_errors, sync_folder
from openrlhf_ext.upstream.quiet import without_weight_bars

if TYPE_CHECKING:
    import torch
    from torch import nn

DTYPES = {"float32": "float32", "bf16": "bfloat16", "fp16": "float16"}
TOLERANCE = {"float32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}
"""Largest accepted difference of logits, relative to the largest logit (at least 1): rounding of the stored numbers."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)
_PREFIX = "base_model.model."
_EXAMPLE = """\
example:
  openrlhf-ext merge --base models/base --adapter runs/sft-lora/model --out models/merged"""


@dataclass(frozen=True)
class Merged:
    """What was checked: largest differences of logits against base + adapter, and how far the adapter moves the base."""

    modules: int
    difference: float
    difference_from_disk: float
    largest_logit: float
    effect: float
    tokenizer_from: Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the ``merge`` command."""
    parser = subparsers.add_parser(
        "merge",
        help="merge a LoRA adapter back into its base",
        description="Merge a LoRA adapter into its base model, in float32 on the CPU, with the logits compared before and after.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--base", required=True, type=Path, metavar="M", help="folder of the base model")
    parser.add_argument("--adapter", required=True, type=Path, metavar="A", help="folder of the adapter")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="new folder for the merged model")
    parser.add_argument(
        "--dtype", choices=tuple(DTYPES), default="float32", help="of the written weights (default float32)"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """0 = merged, 2 = the request was wrong, 1 = the merge failed; in both cases nothing is left under --out."""
    try:
        merged = merge(args.base, args.adapter, args.out, args.dtype)
    except ConfigError as error:
        return refuse(error.problems, "nothing was written")
    except (MergeError, OSError) as error:
        print(f"failed, nothing was written: {error}", file=sys.stderr)
        return 1
    print(
        f"{args.out}: {merged.modules} modules merged; logits differ from base + adapter by at most {merged.difference:.2e} in memory "
        f"and {merged.difference_from_disk:.2e} from disk (largest logit {merged.largest_logit:.3g})"
    )
    print(f"the adapter moves the base's logits by up to {merged.effect:.3g}; tokenizer from {merged.tokenizer_from}")
    if merged.effect == 0:
        print("note: this adapter changes nothing (its B matrices are zero: was it trained?)", file=sys.stderr)
    return 0


class MergeError(RuntimeError):
    """The merged model does not compute what base + adapter computed."""


def merge(base: Path, adapter: Path, out: Path, dtype: str = "float32") -> Merged:
    """Write base + adapter as one model to ``out``. ConfigError with all problems; MergeError where the logits differ."""
    problems = folder_problems(base, adapter, out)
    if problems:
        raise ConfigError(problems)
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    without_weight_bars()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    problems = shape_problems(model, adapter_shapes(adapter), base, adapter)
    if problems:
        raise ConfigError(problems)
    inputs = probe(model.config.vocab_size)
    plain = logits(model, inputs)
    adapted = PeftModel.from_pretrained(model, adapter)
    before = logits(adapted, inputs)
    modules = sum(1 for name, _ in adapted.named_modules() if name.endswith("lora_A"))
    merged = adapted.merge_and_unload(safe_merge=True)
    difference = largest_difference(before, logits(merged, inputs), "merging", TOLERANCE["float32"])
    source = _tokenizer_source(base, adapter)
    written = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with disk_errors(written, "the base and the adapter, unchanged"):
            merged.to(getattr(torch, DTYPES[dtype])).save_pretrained(written)
            _copy_tokenizer(source, written)
            follow_umask(written)
        del merged, adapted, model
        read_back = AutoModelForCausalLM.from_pretrained(written, dtype=torch.float32)
        from_disk = largest_difference(before, logits(read_back, inputs), f"writing it as {dtype}", TOLERANCE[dtype])
        os.rename(written, out)
        sync_folder(out.absolute().parent)
    finally:
        shutil.rmtree(written, ignore_errors=True)
    effect = (before - plain).abs().max().item()
    return Merged(modules, difference, from_disk, before.abs().max().item(), effect, source)


def folder_problems(base: Path, adapter: Path, out: Path) -> list[Problem]:
    """What is wrong with the three folders, before anything is loaded."""
    found = []
    if not base.is_dir():
        found.append(Problem(f"--base {base}", "no such folder", "give the folder of the base model"))
    elif not (base / "config.json").is_file():
        found.append(Problem(f"--base {base}", "no config.json", "give the folder of a saved model"))
    if not adapter.is_dir():
        found.append(Problem(f"--adapter {adapter}", "no such folder", "give the folder of the adapter"))
    else:
        found += _adapter_problems(adapter)
    if out.exists():
        found.append(Problem(f"--out {out}", "exists already", "choose a new folder"))
    elif not out.absolute().parent.is_dir():
        found.append(Problem(f"--out {out}", f"there is no folder {out.absolute().parent}", "make it first"))
    return found


def _adapter_problems(adapter: Path) -> list[Problem]:
    where = f"--adapter {adapter}"
    if not (adapter / "adapter_config.json").is_file():
        model = "a whole model, not an adapter" if (adapter / "config.json").exists() else "no adapter_config.json"
        return [Problem(where, model, "give the folder that a LoRA run saved")]
    try:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        return [Problem(where, f"adapter_config.json is not JSON: {error}", "save the adapter again")]
    found = []
    if config.get("peft_type") != "LORA":
        found.append(Problem(where, f"peft_type {config.get('peft_type')!r}, not LORA", "only LoRA can be merged here"))
    if not any((adapter / name).is_file() for name in ("adapter_model.safetensors", "adapter_model.bin")):
        found.append(Problem(where, "no adapter_model.safetensors", "copy the whole folder that the run saved"))
    return found


def adapter_shapes(adapter: Path) -> dict[str, tuple[int, ...]]:
    """Parameter name (as in the base model) -> shape of what the adapter adds to it or replaces it with."""
    from peft.utils import load_peft_weights

    weights = load_peft_weights(str(adapter), device="cpu")
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in weights.items():
        plain = name.removeprefix(_PREFIX)
        if plain.endswith(".lora_A.weight"):
            shapes.setdefault(plain.removesuffix(".lora_A.weight") + ".weight", (0, 0))
            target = plain.removesuffix(".lora_A.weight") + ".weight"
            shapes[target] = (shapes[target][0], tensor.shape[1])
        elif plain.endswith(".lora_B.weight"):
            target = plain.removesuffix(".lora_B.weight") + ".weight"
            shapes[target] = (tensor.shape[0], shapes.get(target, (0, 0))[1])
        elif ".lora_" not in plain:
            shapes[plain] = tuple(tensor.shape)
    return shapes


def shape_problems(model: nn.Module, shapes: Mapping[str, tuple[int, ...]], base: Path, adapter: Path) -> list[Problem]:
    """Parameters of the adapter that the base does not have, or has in another shape: an adapter of another base."""
    own = {name: tuple(parameter.shape) for name, parameter in model.named_parameters(remove_duplicate=False)}
    absent = [name for name in shapes if name not in own]
    wrong = [
        f"{name} {shapes[name]} against {own[name]}" for name in shapes if name in own and own[name] != shapes[name]
    ]
    found = []
    if absent:
        what = f"{len(absent)} of its {len(shapes)} parameters are not in {base}: {_some(absent)}"
        found.append(Problem(f"--adapter {adapter}", what, _made_for(adapter)))
    if wrong:
        what = f"{len(wrong)} of its {len(shapes)} parameters have another shape in {base}: {_some(wrong)}"
        found.append(Problem(f"--adapter {adapter}", what, _made_for(adapter)))
    if not shapes:
        found.append(Problem(f"--adapter {adapter}", "it holds no weights", "save the adapter again"))
    return found


def probe(vocabulary: int, rows: int = 4, length: int = 24) -> torch.Tensor:
    """Token ids [rows, length] spread over the whole vocabulary, the same every time."""
    import torch

    return torch.randint(vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))


def logits(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Logits [rows, length, vocabulary] in float32, without dropout."""
    import torch

    model.eval()
    with torch.no_grad():
        return model(input_ids=inputs).logits.float()


def largest_difference(before: torch.Tensor, after: torch.Tensor, step: str, tolerance: float) -> float:
    """The largest absolute difference; MergeError where it is more than ``tolerance`` x the largest logit (at least 1)."""
    difference = (before - after).abs().max().item()
    allowed = tolerance * max(1.0, before.abs().max().item())
    if not difference <= allowed:  # also true for nan
        raise MergeError(f"{step} changed the logits by {difference:.3g}, more than {allowed:.3g}")
    return difference


def _made_for(adapter: Path) -> str:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return f"it was made for {config.get('base_model_name_or_path') or 'another base'}: give that as --base"


def _tokenizer_source(base: Path, adapter: Path) -> Path:
    """Training saves the tokenizer it used beside the adapter; without one there, the base's own."""
    own = any((adapter / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"))
    return adapter if own else base


def _copy_tokenizer(source: Path, target: Path) -> None:
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _some(items: Sequence[str], shown: int = 4) -> str:
    more = f", and {len(items) - shown} more" if len(items) > shown else ""
    return f"{', '.join(items[:shown])}{more}"
