"""`prepare pairs --kind outcome`: graded samples -> a right and a wrong solution of the same problem."""

import argparse

from openrlhf_ext.data.outcome_pairs import CHOICES, OutcomeRule, make_outcome_pairs
from openrlhf_ext.data.rft import DEDUPE
from openrlhf_ext.data.samples import graded_at_first_answer, read_samples
from openrlhf_ext.prepare.arguments import at_least
from openrlhf_ext.prepare.pairs import Built, left_out

PER_PROBLEM = 8


def add_arguments(parser: "argparse._ArgumentGroup") -> None:
    parser.add_argument(
        "--choose",
        choices=CHOICES,
        default="auto",
        help="the wrong solution of a pair: the farthest by edit distance (default), of MATH the shortest that differs enough",
    )
    parser.add_argument("--dedupe", choices=DEDUPE, default="auto", help="what makes two right solutions the same")
    parser.add_argument(
        "--min-chars", type=at_least(1), default=1, metavar="N", help="shortest text of a pair (default 1)"
    )
    parser.add_argument("--max-chars", type=at_least(1), metavar="N", help="longest text of a pair (default: any)")
    parser.add_argument("--max-ratio", type=float, metavar="R", help="longest text over the other (default: any)")
    parser.add_argument("--drop-truncated", action="store_true", help="no wrong solution that the token limit cut off")


def build(args: argparse.Namespace) -> Built:
    """Raises ValueError for unreadable samples."""
    if args.max_ratio is not None and not args.max_ratio >= 1:
        raise ValueError(f"--max-ratio {args.max_ratio}: give 1 or more")
    samples = read_samples(args.source, args.task or "")
    rule = OutcomeRule(
        per_problem=args.per_problem or PER_PROBLEM,
        choose=args.choose,
        dedupe=args.dedupe,
        seed=args.seed,
        min_chars=args.min_chars,
        max_chars=args.max_chars,
        max_ratio=args.max_ratio,
        keep_truncated=not args.drop_truncated,
    )
    pairs = make_outcome_pairs(graded_at_first_answer(samples.items), rule)
    return Built(pairs.items, samples.notes() + left_out(pairs.left_out))
