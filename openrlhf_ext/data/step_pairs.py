"""Step pairs of what explore found: the pit against a continuation that reaches the answer (Self-Explore, arXiv:2404.10346, stage 5).

    pit i >= 2: prompt = question + s_1..s_{i-1}; chosen = the shortest unused correct completion of that prefix; rejected = s_i
    pit 1:      prompt = question;               chosen = the whole correct solution;                            rejected = s_1

Within a problem no chosen and no rejected text is used twice. A completion that begins with the pit itself contradicts it and is passed
over. Problems are told apart by their ids; the original took the first line of the prompt, so that some met and some parted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from openrlhf_ext.data.explore import Walk
from openrlhf_ext.data.made_pairs import Meta, Pair, Pairs

REJECTED = ("pit", "suffix")


@dataclass(frozen=True)
class StepRule:
    """`rejected`: the pit alone, or all from the pit on; `per_problem`: most pairs of a problem, None = all."""

    rejected: str = "pit"
    per_problem: int | None = None


def make_step_pairs(walks: Sequence[Walk], rule: StepRule) -> Pairs:
    """A pair for every first pit, in the order of the walks. What gives none is counted by reason."""
    found = Pairs()
    kept: dict[str | int, list[Pair]] = {}
    for walk in walks:
        mine = kept.setdefault(walk.solution.problem, [])
        pair = _pair(walk, mine, rule)
        if isinstance(pair, str):
            found.left_out[pair] += 1
        elif rule.per_problem is not None and len(mine) >= rule.per_problem:
            found.left_out["pits beyond --per-problem"] += 1
        else:
            mine.append(pair)
            found.items.append(pair)
    return found


def _pair(walk: Walk, kept: Sequence[Pair], rule: StepRule) -> Pair | str:
    """The pair, or why there is none."""
    solution, pit = walk.solution, walk.pit
    if pit is None:
        return {
            "none": "solutions without a pit",
            "cap": "solutions without a pit among the steps explored",
        }.get(walk.end, "solutions not explored to the end")
    rejected = "".join(solution.steps[pit - 1 :]) if rule.rejected == "suffix" else solution.steps[pit - 1]
    if any(pair["rejected"] == rejected for pair in kept):
        return "pits whose text another pair of the problem rejects"
    candidates = _candidates(walk, pit)
    if not candidates:
        return "pits at the first step of problems without a correct solution"
    agreeing = [text for text in candidates if not text.startswith(solution.steps[pit - 1].rstrip())]
    if not agreeing:
        return "pits with which every correct completion begins"
    used = {pair["chosen"] for pair in kept}
    unused = [text for text in agreeing if text not in used]
    if not unused:
        return "pits whose correct completions are all used by other pairs of the problem"
    meta: Meta = {
        "kind": "step",
        "problem_id": solution.problem,
        "solution": solution.id,
        "pit": pit,
        "steps": len(solution.steps),
        "rest": "" if rule.rejected == "suffix" else "".join(solution.steps[pit:]),
        "label": solution.label,
        "task": solution.task,
    }
    return {"prompt": solution.prefix(pit - 1), "chosen": unused[0], "rejected": rejected, "meta": meta}


def _candidates(walk: Walk, pit: int) -> list[str]:
    """Correct texts that go on from before the pit, shortest first."""
    if pit == 1:
        return [] if walk.solution.chosen is None else [walk.solution.chosen]
    correct = [completion["text"] for completion in walk.completions[pit - 1] if completion["correct"]]
    return sorted(dict.fromkeys(correct), key=len)
