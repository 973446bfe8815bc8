"""The exact check of a loss, for anybody's loss: does it lead V and pi to the known optimum on random finite trees?

    python -m openrlhf_ext.losses.exact_check --seed 0 1 2 --horizon 4 --branching 3 --level token step response
    python -m openrlhf_ext.losses.exact_check --policy-residual my_module:my_policy_residual

Exit code 0 where every error is below the tolerance, 1 where one is not. The residuals take what `losses/soft_bellman.py`'s take.
It says that the loss has the right minimum where every path is seen, and nothing about a sample of paths.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openrlhf_ext.losses import soft_bellman
from openrlhf_ext.losses.soft_optimum import Fit, Residual, fit, random_tree

LEVELS = ("token", "step", "response")


@dataclass(frozen=True)
class Case:
    """One tree and level with what the loss reached on it."""

    seed: int
    horizon: int
    branching: int
    level: str
    fit: Fit

    def within(self, tolerance: float) -> bool:
        """Whether V and pi are at the optimum."""
        return max(self.fit.value_error, self.fit.policy_error) < tolerance


def check_loss(
    seeds: Sequence[int] = (0, 1, 2),
    horizons: Sequence[int] = (4,),
    branchings: Sequence[int] = (3,),
    levels: Sequence[str] = LEVELS,
    *,
    beta: float = 0.1,
    updates: int = 3000,
    value_residual: Residual = soft_bellman.value_residual,
    policy_residual: Residual = soft_bellman.policy_residual,
) -> Iterator[Case]:
    """Every combination, one after the other. `beta` >= 0.1: below it the optimum is there too, but far away in updates.

    ValueError for a tree of more than 100000 paths.
    """
    for seed, horizon, branching, level in itertools.product(seeds, horizons, branchings, levels):
        tree = random_tree(seed, horizon, branching)
        found = fit(tree, beta, level, updates=updates, value_residual=value_residual, policy_residual=policy_residual)
        yield Case(seed, horizon, branching, level, found)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per case; 1 if one of them missed the optimum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--horizon", type=int, nargs="+", default=[4], help="tokens of a path (default 4)")
    parser.add_argument("--branching", type=int, nargs="+", default=[3], help="tokens to choose from (default 3)")
    parser.add_argument("--level", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of V and of pi (default 0.001)")
    parser.add_argument("--value-residual", metavar="MODULE:FUNCTION", help="your value residual")
    parser.add_argument("--policy-residual", metavar="MODULE:FUNCTION", help="your policy residual")
    args = parser.parse_args(argv)
    given = {
        name: _named(text)
        for name, text in (("value_residual", args.value_residual), ("policy_residual", args.policy_residual))
        if text
    }
    cases = check_loss(
        args.seed, args.horizon, args.branching, args.level, beta=args.beta, updates=args.updates, **given
    )
    missed = 0
    for case in cases:
        right = case.within(args.tolerance)
        missed += not right
        print(
            f"seed {case.seed}  horizon {case.horizon}  branching {case.branching}  {case.level:8}  "
            f"V {case.fit.value_error:.1e}  pi {case.fit.policy_error:.1e}  "
            f"success {case.fit.reference_success:.3f} -> {case.fit.success:.3f} (optimum {case.fit.optimal_success:.3f})  "
            f"{'ok' if right else 'MISSED'}"
        )
    return 1 if missed else 0


def _named(text: str) -> Residual:
    module, _, name = text.partition(":")
    found: Residual = getattr(importlib.import_module(module), name)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
