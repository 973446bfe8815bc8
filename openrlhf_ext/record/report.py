"""`openrlhf-ext report RUN_DIR [RUN_DIR ...]`: one self-contained HTML file of a run, or of several runs side by side.

The page needs no network and no script to be read; a small script adds values under the pointer. Everything a model wrote is escaped by the
template engine (autoescape), which is why one is used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from itertools import groupby
from pathlib import Path

from openrlhf_ext.record.charts import Figure, comparison_figures, constants, run_figures
from openrlhf_ext.record.compare import differences, durations, final_columns, grouped
from openrlhf_ext.record.facts import event_lines, health, plan_table, tiles
from openrlhf_ext.record.jsonl import write_atomic
from openrlhf_ext.record.samples import (
    BYTES_READ,
    FILES_READ,
    Sample,
    changed_in_training,
    compare_evaluations,
    extremes,
    read_file,
    spread,
    training_files,
)
from openrlhf_ext.record.text import clock
from openrlhf_ext.record.verdict import verdicts
from openrlhf_ext.record.view import X_AXES, View, read_view

SHOWN_LINES = 300
SHOWN_LINE = 2000
PAIRS_SHOWN = 3


def write_report(run_dirs: Sequence[Path], out: Path, x: str = "step") -> Path:
    """Write the report of one run, or the comparison of several, to `out` and return it. `x`: step, tokens or time.

    Raises ValueError for a directory that is no run or for no directory at all; `DiskFull` when the disk is full.
    """
    if not run_dirs:
        raise ValueError("a report needs at least one run directory")
    views = [read_view(path) for path in run_dirs]
    page = run_page(views[0], x) if len(views) == 1 else comparison_page(views, x)
    return write_atomic(Path(out), [page])


def run_page(view: View, x: str) -> str:
    """The HTML of a single run."""
    file_list = training_files(view.path)
    read = spread(file_list, FILES_READ)
    by_file = [read_file(path, BYTES_READ) for path in read]
    late = [sample for samples in by_file[-max(1, len(by_file) // 4) :] for sample in samples]
    evaluations = compare_evaluations(view.path)
    return render(
        "run.html.j2",
        {
            "title": title(view),
            "view": view,
            "status": view.status,
            "started": when(view.started),
            "duration": clock(view.elapsed),
            "tiles": tiles(view),
            "verdicts": verdicts(view.rows),
            "evaluations": [(item, item.sentence()) for item in evaluations],
            "sections": sections(run_figures(view, x)),
            "constants": constants(view),
            "health": health(view),
            "events": event_lines(view),
            "extremes": extremes(late),
            "changed": []
            if evaluations
            else changed_in_training([s for samples in by_file for s in samples], PAIRS_SHOWN),
            "files_read": len(read),
            "files_kept": len(file_list),
            "plan": plan_table(view.plan),
            "pairs_shown": PAIRS_SHOWN,
        },
    )


def comparison_page(views: Sequence[View], x: str) -> str:
    """The HTML of several runs."""
    groups = grouped(views)
    order = [view for group in groups for view in group.views]
    positions = {id(view): index for index, view in enumerate(order)}
    return render(
        "comparison.html.j2",
        {
            "title": f"{len(views)} runs compared",
            "views": order,
            "groups": groups,
            "members": [[positions[id(view)] for view in group.views] for group in groups],
            "columns": final_columns(order),
            "durations": durations(order),
            "differences": differences(order),
            "sections": sections(comparison_figures(groups, x)),
            "verdicts": [[(verdict.suite, verdict.sentence()) for verdict in verdicts(view.rows)] for view in order],
        },
    )


def render(template: str, values: Mapping[str, object]) -> str:
    """Fill a template of `assets/`; every value is HTML-escaped unless it is markup of our own."""
    import jinja2

    folder = files("openrlhf_ext.record") / "assets"
    loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(text_lines=text_lines, made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    return environment.get_template(template).render(values)


def sections(figures: Sequence[Figure]) -> list[tuple[str, list[Figure]]]:
    """Figures by section, in order."""
    return [(name, list(group)) for name, group in groupby(figures, key=lambda figure: figure.section)]


def title(view: View) -> str:
    """A short name for the run: method and task, else its folder."""
    known = " · ".join(
        part for part in (view.method.upper() if len(view.method) < 5 else view.method, view.task) if part
    )
    return known or view.name


def when(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if moment else "unknown"


def text_lines(sample: Sample) -> tuple[list[tuple[int, str, str]], int]:
    """(line number from 1, text, "right" | "wrong" | "") of the response, and how many more lines were left out."""
    lines = (sample.text or "").rstrip("\n").split("\n")
    shown = []
    for index, line in enumerate(lines[:SHOWN_LINES]):
        mark = "" if sample.wrong_lines is None else "wrong" if index in sample.wrong_lines else "right"
        shown.append((index + 1, line if len(line) <= SHOWN_LINE else line[:SHOWN_LINE] + " ...", mark))
    return shown, max(0, len(lines) - SHOWN_LINES)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `report` command."""
    parser = subparsers.add_parser(
        "report",
        help="one self-contained HTML file of a run; several runs = comparison",
        epilog="example: openrlhf-ext report runs/grpo-seed1 runs/grpo-seed2 runs/grpo-seed3 --out seeds.html",
    )
    parser.add_argument(
        "run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="run directories; two or more are compared"
    )
    parser.add_argument(
        "--out", type=Path, help="default: RUN_DIR/report.html, or comparison.html here for several runs"
    )
    parser.add_argument(
        "--x", choices=tuple(X_AXES), default="step", help="horizontal axis of the curves (default: step)"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the command: 0 = written, 2 = the request was wrong, 1 = writing failed."""
    out = args.out or (args.run_dirs[0] / "report.html" if len(args.run_dirs) == 1 else Path("comparison.html"))
    faults = [f"{path}: no such directory" for path in args.run_dirs if not path.is_dir()]
    faults += [
        f"--out {out}: the folder {out.parent} does not exist" for _ in [0] if not out.parent.is_dir() and not faults
    ]
    if faults:
        print("\n".join(faults), file=sys.stderr)
        return 2
    try:
        written = write_report(args.run_dirs, out, args.x)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"the report was not written: {error}", file=sys.stderr)
        return 1
    print(written)
    return 0
