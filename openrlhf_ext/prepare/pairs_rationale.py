"""`prepare pairs --kind rationale`: answers of a label task -> the better rationale above a worse one, both for the same label."""

import argparse

from openrlhf_ext.data.candidates import read_candidates
from openrlhf_ext.data.ranked_file import holds_ranked_pairs, read_ranked_pairs
from openrlhf_ext.data.rationale_pairs import SCORERS, find_scorer, make_rationale_pairs, rationale_pair_faults
from openrlhf_ext.prepare.pairs import Built
from openrlhf_ext.prepare.pairs_label import RANKED, built, renderer, task_of, unseen


def add_arguments(parser: "argparse._ArgumentGroup") -> None:
    names = ", ".join(SCORERS)
    parser.add_argument(
        "--scorer",
        default="score",
        help=f"what makes a rationale better: {names} or package.module:function (default score)",
    )
    parser.add_argument("--min-gap", type=float, default=0.0, help="pairs whose scores differ by more (default 0)")
    parser.add_argument("--gold-only", action="store_true", help="only rationales for the right label")


def build(args: argparse.Namespace) -> Built:
    """Raises ValueError for rows that cannot be read, each named."""
    spec, asked = task_of(args), renderer(args)
    if holds_ranked_pairs(args.source):
        return unseen(Built(read_ranked_pairs("rationale", spec, args.source, asked), [RANKED]), args.held_out)
    found = read_candidates(spec, args.source, asked)
    pairs = make_rationale_pairs(
        found.items,
        find_scorer(args.scorer),
        per_problem=args.per_problem or 1,
        min_gap=args.min_gap,
        gold_only=args.gold_only,
        seed=args.seed,
    )
    broken = [fault for pair in pairs.items for fault in rationale_pair_faults(pair["chosen"], pair["rejected"], spec)]
    return unseen(built(pairs, broken, found), args.held_out)
