"""What exploring in waves saves: the same wrong solutions by waves, by a plain loop, and without early stop, on one engine.

    python benchmarks/explore.py --model M --pairs FILE --k 4 --limit 60

waves: every step number is one wave over all open solutions (what `explore` does). loop: solution after solution, step after step, K completions at
a time, stopping at the pit. everything: waves over every prefix, no stop. Between them the model is loaded anew, which empties the prefix cache.
Seeds are the same, so waves and loop find the same pits.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openrlhf_ext.config.problem import ConfigError, errors
from openrlhf_ext.data.explore import Budget, Due, Exploration, StepRow, step_row
from openrlhf_ext.explore.request import Checked, ExploreRequest, check_request
from openrlhf_ext.rollout.explore import PrefixRequest, Sampler, explore, graded, sample_seed


@dataclass(frozen=True)
class Measured:
    """One way of exploring: seconds, completions, generated tokens, share of the prompt tokens that the prefix cache held; the pits."""

    name: str
    seconds: float
    completions: int
    tokens: int
    cached: float
    pits: tuple[int | None, ...] = ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", required=True, type=Path)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--limit", type=int, default=60, help="wrong solutions (default 60)")
    args = parser.parse_args()
    print(markdown(measure(args.model, args.pairs, args.k, args.limit)))


def measure(model: str, pairs: Path, k: int, limit: int) -> list[Measured]:
    """The three ways, one after the other on one engine. Raises ConfigError for a wrong request."""
    from openrlhf_ext.cluster import Cluster
    from openrlhf_ext.config.device import precision_of
    from openrlhf_ext.evaluate.engine import EnginePool
    from openrlhf_ext.evaluate.options import EngineOptions
    from openrlhf_ext.explore.run import engine_sampler
    from openrlhf_ext.record.progress import Progress

    machine = Cluster.local()
    request = ExploreRequest(model, pairs, None, Path("explore-benchmark.jsonl"), k, limit=limit)
    checked, found = check_request(request, machine.device)
    if checked is None:
        raise ConfigError(errors(found))
    options = EngineOptions(
        machine.device,
        precision_of("auto", machine.device),
        threads=int(machine.cpus),
        wave=limit * k * request.steps_cap,
    )
    ways: dict[str, Callable[[Checked, Sampler], tuple[int, tuple[int | None, ...]]]] = {
        "waves": by_waves,
        "loop": by_loop,
        "everything": without_stop,
    }
    results = []
    with Progress(len(ways), "benchmark", stream=sys.stderr) as progress, EnginePool(options, progress) as pool:
        pool.start(checked.model, checked.task_options, checked.tokenizer, checked.length)
        sample = engine_sampler(pool.continuations(checked.max_new_tokens), checked, request.temperature)
        sample([PrefixRequest(checked.solutions[0].prompt, 1, 0)])  # the first request compiles and warms up
        for number, (name, way) in enumerate(ways.items(), start=1):
            pool.exchange(checked.model)
            before, started = pool.usage(), time.monotonic()
            completions, pits = way(checked, sample)
            seconds, after = time.monotonic() - started, pool.usage()
            spent = {key: after[key] - before[key] for key in after}
            cached = spent["cached_tokens"] / max(spent["prompt_tokens"], 1)
            results.append(Measured(name, seconds, completions, spent["generated_tokens"], cached, pits))
            progress.step(number)
    return results


def by_waves(checked: Checked, sample: Sampler) -> tuple[int, tuple[int | None, ...]]:
    exploration, rows = Exploration(checked.solutions, checked.budget), 0

    def count(new: Sequence[object]) -> None:
        nonlocal rows
        rows += len(new)

    explore(exploration, sample, checked.task, count)
    return rows * checked.budget.k, tuple(walk.pit for walk in exploration.walks)


def by_loop(checked: Checked, sample: Sampler) -> tuple[int, tuple[int | None, ...]]:
    """One prefix at a time. Every solution is an exploration of its own, so seeds and pits are those of the waves."""
    completions, pits = 0, []
    for number, solution in enumerate(checked.solutions):
        exploration = Exploration([solution], checked.budget)
        while pending := exploration.pending():
            exploration.observe(_asked(pending[0], checked, sample, number))
            completions += pending[0].count
        pits.append(exploration.walks[0].pit)
    return completions, tuple(pits)


def without_stop(checked: Checked, sample: Sampler) -> tuple[int, tuple[int | None, ...]]:
    budget = Budget(checked.budget.k, 0, checked.budget.steps_cap)
    prefixes = [
        Due(solution, step, 0, 0, budget.k)
        for solution in checked.solutions
        for step in range(1, min(len(solution.steps), budget.steps_cap) + 1)
    ]
    sample([request for number, due in enumerate(prefixes) for request in _requests(due, number)])
    return len(prefixes) * budget.k, ()


def _asked(due: Due, checked: Checked, sample: Sampler, group: int) -> StepRow:
    answers = sample(_requests(due, group))
    return step_row(due, [graded(text, tokens, due.solution.label, checked.task) for text, tokens in answers])


def _requests(due: Due, group: int) -> list[PrefixRequest]:
    numbers = range(due.first, due.first + due.count)
    return [PrefixRequest(due.solution.prefix(due.step), sample_seed(42, due, number), group) for number in numbers]


def markdown(results: Sequence[Measured]) -> str:
    """The table, the shares of the claim, and whether both ways found the same pits."""
    lines = ["| | seconds | completions | tokens | prompt tokens from the prefix cache |", "|---|--:|--:|--:|--:|"]
    lines += [f"| {m.name} | {m.seconds:.1f} | {m.completions} | {m.tokens} | {100 * m.cached:.0f}% |" for m in results]
    waves, loop, everything = results
    same = sum(a == b for a, b in zip(waves.pits, loop.pits, strict=True))
    return "\n".join(
        [
            *lines,
            "",
            f"Waves take {waves.seconds / loop.seconds:.2f} of the loop's time and {waves.tokens / max(everything.tokens, 1):.2f} of the tokens "
            f"without early stop. Equal pits: {same} of {len(waves.pits)}.",
        ]
    )


if __name__ == "__main__":
    main()
