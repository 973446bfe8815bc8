"""What a search cost and where it ended, beside the accuracy of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from openrlhf_ext.record.text import number

COLUMNS = {
    "search/generated": "tokens generated",
    "search/steps": "steps",
    "search/finished": "finished",
    "search/right_finished": "right among them",
    "search/found": "some right",
    "search/duplicates": "merged",
    "search/cut": "cut",
    "search/capped": "at step cap",
    "search/values_read": "values read",
    "search/seconds": "seconds",
}
SHARES = ("search/found", "search/capped", "search/right_finished")


def effort(rows: Sequence[dict]) -> dict[str, float]:
    """Means per problem. ``found``: share of problems with a right answer among the finished ones, chosen or not;

    ``right_finished``: share of right ones among all finished answers, what choosing blindly would give.
    """
    parts = [row["search"] for row in rows]
    means = {f"search/{key}": fmean(part[key] for part in parts) for key in ("generated", "seconds")}
    if "proposed" not in parts[0]:
        return means
    finished = sum(part["finished"] for part in parts)
    return means | {
        **{
            f"search/{key}": fmean(part[key] for part in parts)
            for key in ("finished", "duplicates", "cut", "values_read")
        },
        "search/steps": fmean(part["steps"] for part in parts if part["finished"]) if finished else 0.0,
        "search/found": fmean(part["finished_correct"] > 0 for part in parts),
        "search/right_finished": sum(part["finished_correct"] for part in parts) / max(finished, 1),
        "search/capped": fmean(part["capped"] for part in parts),
    }


def effort_table(summaries: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: per problem, one row per arm."""
    lines = [
        f"| per problem | {' | '.join(COLUMNS.values())} |",
        f"| --- | {' | '.join('--:' for _ in COLUMNS)} |",
    ]
    for name, summary in summaries.items():
        cells = [_cell(key, summary.get(key)) for key in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}%" if key in SHARES else number(round(value, 3))
