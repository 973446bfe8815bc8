"""Programs per second in the sandbox: ordinary programs, several threads, after a warm-up; the median of rounds.

    python benchmarks/sandbox.py [--rounds 7] [--programs 100] [--threads 1,2]

The rounds of the thread counts take turns, so that a change in the machine's load meets all of them.
"""

import argparse
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from openrlhf_ext.sandbox import Sandbox

PROGRAMS = {
    "arithmetic": "def solution():\n    eggs = 16\n    left = eggs - 3 - 4\n    result = left * 2\n    return result\n",
    "sympy": "def solution():\n    x = sympy.symbols('x')\n    return sympy.solve(3 * x - 54, x)[0]\n",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--programs", type=int, default=100, help="per round")
    parser.add_argument("--threads", default="1,2", help="as many servers as threads")
    args = parser.parse_args()
    counts = [int(count) for count in args.threads.split(",")]
    sandboxes = {count: Sandbox(count) for count in counts}
    rates: dict[tuple[str, int], list[float]] = {(kind, count): [] for kind in PROGRAMS for count in counts}
    for number in range(args.rounds + 1):
        for kind, count in rates:
            rate = programs_per_second(sandboxes[count], PROGRAMS[kind], count, args.programs)
            if number:  # round 0 starts the servers
                rates[kind, count].append(rate)
    for sandbox in sandboxes.values():
        sandbox.close()
    for (kind, count), found in rates.items():
        low, high = min(found), max(found)
        row = {"programs": kind, "threads": count, "median": statistics.median(found), "min": low, "max": high}
        print(json.dumps({key: round(value, 1) if isinstance(value, float) else value for key, value in row.items()}))


def programs_per_second(sandbox: Sandbox, program: str, threads: int, programs: int) -> float:
    """Raises RuntimeError where a program does not give 18."""
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        outcomes = list(pool.map(lambda _: sandbox.run(program), range(programs)))
    seconds = time.perf_counter() - started
    if wrong := [outcome for outcome in outcomes if outcome.number != "18.0"]:
        raise RuntimeError(f"{len(wrong)} of {programs} programs did not give 18, the first: {wrong[0]}")
    return programs / seconds


if __name__ == "__main__":
    main()
