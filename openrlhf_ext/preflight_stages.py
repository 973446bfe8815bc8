"""The data of a reverse curriculum before a run: every row names its stage, no stage is missing, budgets fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from openrlhf_ext.config.load import Resolved
from openrlhf_ext.config.problem import Problem
from openrlhf_ext.preflight_data import Rows
from openrlhf_ext.rollout.start_states import stage_number

_FIX = "openrlhf-ext prepare reverse-curriculum --mode mixed: its rows serve every mode"


def trained_rows(resolved: Resolved, data: Rows) -> int:
    """Rows that the run trains on: all, or, in mode plain of the reverse curriculum, the bare questions."""
    if resolved.get("reverse_curriculum.mode") != "plain":
        return len(data.rows)
    return sum(stage_number(row.get("datasource")) == 0 for row in data.rows)


def stage_problems(resolved: Resolved, data: Rows, total: int | None = None) -> Iterator[Problem]:
    """Problems of the rows' stages; nothing for other methods. ``total``: start states of the whole run, where it is known."""
    if resolved.method != "reverse-curriculum" or not data.rows:
        return
    stages = [stage_number(row.get("datasource")) for row in data.rows]
    if None in stages:
        place, source = data.places[stages.index(None)], data.rows[stages.index(None)].get("datasource")
        what = (
            f"{stages.count(None)} rows name no stage; the first has datasource {source!r}, not stage_0, stage_1, ..."
        )
        yield Problem(place, what, _FIX)
        return
    counts = Counter(stage for stage in stages if stage is not None)
    wanted = max(counts) + 1
    missing = [stage for stage in range(wanted) if stage not in counts]
    if missing:
        what = f"no start states of stage {', '.join(map(str, missing))} among stages 0 to {wanted - 1}"
        yield Problem(resolved.where(data.key), what, _FIX)
    mode = resolved.get("reverse_curriculum.mode")
    if wanted == 1 and mode != "plain":
        what = f"the data has stage 0 alone, the bare questions: {mode} would be ordinary outcome RL"
        yield Problem(resolved.where(data.key), what, f"{_FIX}, or --reverse_curriculum.mode plain")
    budgets = resolved.numbers("reverse_curriculum.budgets")
    if mode == "staged" and total is not None and total < wanted:
        what = f"{total} start states in the whole run, fewer than the {wanted} stages"
        yield Problem(
            resolved.where("reverse_curriculum.max_steps"), what, "more steps, or a larger rollout.batch_size"
        )
    if budgets and mode == "staged" and len(budgets) != wanted:
        what = f"{len(budgets)} budgets, but the data has {wanted} stages"
        yield Problem(resolved.where("reverse_curriculum.budgets"), what, f"{wanted} numbers, stage 0 first")
