"""``score``: reward models on held-out pairs: how often they rank them rightly, how sure they are, and on which scale."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.evaluate.reward_diagnostics import Diagnosis, diagnose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from openrlhf_ext.data.step_preference import PairData

_EXAMPLE = """\
examples:
  openrlhf-ext score --model runs/rm-label/model runs/rm-rationale/model --pairs data/label_test.jsonl data/rationale_test.jsonl
  openrlhf-ext score --model runs/rm-label/model --pairs data/label_test.jsonl --save --tau-quantile 0.5"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the ``score`` command."""
    parser = subparsers.add_parser(
        "score",
        help="diagnostics of reward models on held-out pairs",
        description="Every model scores every file of pairs {prompt, chosen, rejected}, each answer with its end token.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", nargs="+", type=Path, required=True, metavar="M", help="model folders of train rm")
    parser.add_argument(
        "--pairs", nargs="+", type=Path, required=True, metavar="FILE", help="pairs that were not trained on"
    )
    parser.add_argument("--max-len", type=int, default=2048, help="tokens of prompt and answer (default 2048)")
    parser.add_argument(
        "--tau-quantile", type=float, default=0.5, help="tau = this quantile of the chosen scores (default 0.5)"
    )
    parser.add_argument(
        "--save",
        action="store_true",
        help="keep with each model its scale on the pairs that it ranks best (reward_scale.json)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="all numbers as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """0 = done, 2 = the request was wrong, 1 = a model could not be scored with."""
    faults = _faults(args)
    if faults:
        print("\n".join(f"error: {fault}" for fault in faults), file=sys.stderr)
        return 2
    found: dict[str, dict[str, Diagnosis]] = {}
    for model in args.model:
        try:
            found[str(model)] = _diagnoses(model, args)
        except ValueError as error:
            print(f"error: {model}: {error}", file=sys.stderr)
            return 1
    print(table(found))
    if args.save:
        from openrlhf_ext.record.reward_scale import write_scale

        for model in args.model:
            path, best = max(found[str(model)].items(), key=lambda item: item[1].scale.accuracy)
            print(f"{write_scale(model, best.scale)}: written, from {path}")
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        content = {m: {file: asdict(diagnosis) for file, diagnosis in by_file.items()} for m, by_file in found.items()}
        args.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"{args.out}: written")
    return 0


def table(found: dict[str, dict[str, Diagnosis]]) -> str:
    """One line per model and file."""
    rows = [("model", "pairs", "count", "accuracy", "margin", "chosen 5 / 50 / 95 %", "calibration error", "tau")]
    for model, by_file in found.items():
        for file, diagnosis in by_file.items():
            scale = diagnosis.scale
            levels = " / ".join(f"{scale.chosen_quantiles[q]:.2f}" for q in ("0.05", "0.5", "0.95"))
            accuracy = f"{scale.accuracy:.3f} +- {diagnosis.error:.3f}"
            numbers = (f"{scale.margin:.2f}", levels, f"{diagnosis.calibration_error:.3f}", f"{scale.tau:.2f}")
            rows.append((model, file, str(scale.pairs), accuracy, *numbers))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _faults(args: argparse.Namespace) -> list[str]:
    faults = [
        f"--model {m}: no config.json in it, give the model folder of a run of train rm"
        for m in args.model
        if not (m / "config.json").is_file()
    ]
    faults += [f"--pairs {path}: no such file" for path in args.pairs if not path.is_file()]
    if not 0 <= args.tau_quantile <= 1:
        faults.append(f"--tau-quantile {args.tau_quantile:g}: from 0 to 1")
    for model in args.model:
        config = model / "config.json"
        if config.is_file() and "value_head_prefix" not in json.loads(config.read_text(encoding="utf-8")):
            faults.append(
                f"--model {model}: has no value head, so it scores nothing; give the model of a run of train rm"
            )
    return faults


def _diagnoses(model: Path, args: argparse.Namespace) -> dict[str, Diagnosis]:
    import torch
    from transformers import AutoTokenizer

    from openrlhf_ext.evaluate.reward_model import load_reward_model, score

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(model)
    encoded = {str(path): _encode(path, tokenizer, args.max_len) for path in args.pairs}
    network = load_reward_model(model, device)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    found = {}
    for path, data in encoded.items():
        sides = [
            [pair.prompt + side for pair, side in zip(data.pairs, answers, strict=True)] for answers in _sides(data)
        ]
        chosen, rejected = (score(network, side, pad=pad, device=device) for side in sides)
        found[path] = diagnose(chosen, rejected, args.tau_quantile)
    return found


def _sides(data: PairData) -> tuple[list[list[int]], list[list[int]]]:
    return [pair.chosen for pair in data.pairs], [pair.rejected for pair in data.pairs]


def _encode(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> PairData:
    """Token ids as train rm makes them. Raises ValueError naming the rows that cannot be read."""
    from openrlhf_ext.data.pair_options import PairOptions, encode_source, read_source
    from openrlhf_ext.data.pairs import Columns

    options = PairOptions(columns=Columns(), max_length=max_length, ends="both")
    rows = read_source(str(path), options, 10**9)
    data = encode_source(rows, options, tokenizer, str(path)) if not rows.errors else None
    errors = rows.errors + ([f for f in data.findings if not f.note] if data is not None else [])
    if errors or data is None or not data.pairs:
        raise ValueError("\n".join(f"{f.place}: {f.what} ({f.fix})" for f in errors) or f"{path}: no pairs")
    return data
