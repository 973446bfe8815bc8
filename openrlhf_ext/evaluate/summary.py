"""From graded rows to figures: one summary per model, a table of all of them, and how they differ from the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from statistics import fmean

from openrlhf_ext.evaluate.heldout import summarise
from openrlhf_ext.evaluate.statistics import Comparison, compare, pass_at_k, wilson_interval
from openrlhf_ext.record.text import number

Summary = dict[str, float]


def summarise_model(greedy: Sequence[dict], sampled: Sequence[dict], samples: int) -> Summary:
    """Figures of one model.

    accuracy with its 95% Wilson interval (accuracy_low, accuracy_high); incorrect (finished and wrong) and unfinished, which with
    accuracy add up to 1; reward and its parts (`part/...`); length in tokens; truncated; pass@k for k = 1, 2, 4 ... ``samples``
    over the sampled problems (unbiased), the largest with its interval.
    """
    summary = summarise(greedy)
    correct = sum(row["correct"] for row in greedy)
    summary["accuracy_low"], summary["accuracy_high"] = wilson_interval(correct, len(greedy))
    incorrect = sum(_is_incorrect(row) for row in greedy)
    summary["incorrect"] = incorrect / len(greedy)
    # A solved problem counts as finished whatever its verifier says about the last line.
    summary["unfinished"] = (len(greedy) - correct - incorrect) / len(greedy)
    for key in greedy[0]["metrics"]:
        if key != "unfinished":
            summary[f"part/{key}"] = fmean(row["metrics"][key] for row in greedy)
    if sampled:
        summary |= _pass_rates(sampled, samples)
        summary["sampled/reward"] = fmean(row["reward"] for row in sampled)
        summary["sampled/length"] = fmean(row["tokens"] for row in sampled)
    return summary


def compare_with_first(rows: Mapping[str, Sequence[dict]]) -> dict[str, Comparison]:
    """Each later model against the first, on the greedy answers to the same problems."""
    (_, first), *others = rows.items()
    return {name: compare([r["correct"] for r in first], [r["correct"] for r in other]) for name, other in others}


def markdown(title: str, summaries: Mapping[str, Summary], comparisons: Mapping[str, Comparison]) -> str:
    """The tables, readable as text and as Markdown."""
    columns = _columns(next(iter(summaries.values())))
    body = [[name, *(cell(summary) for _, cell in columns)] for name, summary in summaries.items()]
    lines = [title, "", *_table(["model", *(head for head, _ in columns)], body)]
    if comparisons:
        first = next(iter(summaries))
        head = [
            f"against {first}",
            "accuracy",
            "95%",
            f"solved only by {first}",
            "solved only by it",
            "p (exact, paired)",
        ]
        lines += ["", *_table(head, [_comparison_row(name, c) for name, c in comparisons.items()])]
    return "\n".join(lines) + "\n"


def _is_incorrect(row: dict) -> bool:
    return not row["correct"] and not row["metrics"].get("unfinished", not row["parsed"])


def _pass_rates(rows: Sequence[dict], samples: int) -> Summary:
    groups = [list(group) for _, group in groupby(rows, key=lambda row: row["problem_id"])]
    counts = [sum(row["correct"] for row in group) for group in groups]
    sizes = sorted({1, samples} | {2**i for i in range(samples.bit_length()) if 2**i <= samples})
    rates = {f"pass@{k}": fmean(pass_at_k(samples, count, k) for count in counts) for k in sizes}
    # With k = n the estimate is the share of problems solved at least once, a proportion.
    low, high = wilson_interval(sum(count > 0 for count in counts), len(counts))
    return rates | {f"pass@{samples}_low": low, f"pass@{samples}_high": high, "pass_problems": float(len(groups))}


def _number_of(key: str) -> Callable[[Summary], str]:
    return lambda summary: number(summary[key])


def _columns(summary: Summary) -> list[tuple[str, Callable[[Summary], str]]]:
    """Head and cell writer of each column after the model's name."""
    passes = [key for key in summary if key.startswith("pass@") and not key.endswith(("_low", "_high"))]
    columns: list[tuple[str, Callable[[Summary], str]]] = [
        (f"accuracy ({summary['count']:.0f})", lambda s: _interval(s, "accuracy")),
        ("incorrect", lambda s: _percent(s["incorrect"])),
        ("unfinished", lambda s: _percent(s["unfinished"])),
    ]
    if passes:
        last = max(passes, key=lambda key: int(key.removeprefix("pass@")))
        columns += [
            (f"pass@1 ({summary['pass_problems']:.0f})", lambda s: _percent(s["pass@1"])),
            (last, lambda s: _interval(s, last)),
        ]
    columns.append(("reward", lambda s: f"{s['reward']:.3f}"))
    for key in summary:
        if key.startswith("part/"):
            columns.append((key.removeprefix("part/"), _number_of(key)))
    columns += [("tokens", lambda s: f"{s['length']:.1f}"), ("truncated", lambda s: _percent(s["truncated"]))]
    if summary["verifier_errors"]:
        columns.append(("verifier errors", lambda s: number(s["verifier_errors"])))
    return columns  # type: ignore[return-value]


def _comparison_row(name: str, c: Comparison) -> list[str]:
    interval = f"{100 * c.low:+.1f} .. {100 * c.high:+.1f}"
    return [name, f"{100 * c.difference:+.1f}", interval, str(c.only_first), str(c.only_second), f"{c.p_value:.3g}"]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _interval(summary: Summary, key: str) -> str:
    low, high = summary[f"{key}_low"], summary[f"{key}_high"]
    return f"{100 * summary[key]:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (width - 1)}{':' if i else '-'}" for i, width in enumerate(widths)]
    return [line(head), f"| {' | '.join(rule)} |", *map(line, body)]
