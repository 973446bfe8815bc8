"""The facts around the curves: headline numbers, health checks, events and the plan."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openrlhf_ext.record.svg import short
from openrlhf_ext.record.text import clock
from openrlhf_ext.record.verdict import verdicts
from openrlhf_ext.record.view import View, moment_of

GAP_LIMIT = 0.02
EVENT_WORDS = {
    "start": "started",
    "resume": "resumed",
    "rewind": "rewound",
    "config_changed": "configuration changed",
    "data": "data read",
    "save": "saved",
    "warning": "warning",
    "failure": "failed",
    "interrupted": "interrupted",
    "finish": "finished",
}


@dataclass(frozen=True)
class Tile:
    """A headline number. `note` puts it in relation; `good`: True, False, or None where it is neither."""

    name: str
    value: str
    note: str = ""
    good: bool | None = None


@dataclass(frozen=True)
class Check:
    """A health finding; `level`: ok or warn."""

    level: str
    text: str


@dataclass(frozen=True)
class EventLine:
    """One event as shown: seconds since the first event, kind in words, text, severity (plain, good, warn, bad)."""

    after: str
    time: str
    kind: str
    text: str
    level: str


def tiles(view: View) -> list[Tile]:
    """The headline: accuracy, reward, length, steps, cost and time, as far as they are known."""
    found = []
    for verdict in verdicts(view.rows)[:2]:
        for measure in verdict.measures:
            if measure.key in ("accuracy", "unfinished"):
                latest = measure.after or measure.before
                change = measure.after.value - measure.before.value if measure.after else None
                good = None if not change else (change > 0) == (measure.key == "accuracy")
                name = "held-out accuracy" if measure.key == "accuracy" else "unfinished"
                found.append(Tile(name, f"{100 * latest.value:.0f} %", measure.change(), good))
    reward = [value for value in view.series("rollout/reward_mean")[1] if value is not None]
    if reward:
        part = max(1, len(reward) // 10)
        first, last = statistics.fmean(reward[:part]), statistics.fmean(reward[-part:])
        found.append(
            Tile("mean reward of samples", f"{last:.3f}", f"from {first:.3f}", None if first == last else last > first)
        )
    loss = [value for value in view.series("train/loss")[1] if value is not None]
    if loss and not reward:
        found.append(Tile("training loss", short(round(loss[-1], 4)), f"from {short(round(loss[0], 4))}"))
    found.append(Tile("steps", str(view.last_step)))
    for name, key, note_key in (
        ("tokens generated", "rollout/tokens_total", "rollout/samples_total"),
        ("tokens trained", "train/tokens_total", ""),
    ):
        if total := view.last(key):
            samples = view.last(note_key) if note_key else None
            found.append(Tile(name, short(total), f"{samples:,.0f} responses" if samples else ""))
    step_time = [value for value in view.series("time/step")[1] if value]
    found.append(
        Tile("wall time", clock(view.elapsed), f"{statistics.median(step_time):.1f} s per step" if step_time else "")
    )
    return found


def health(view: View) -> list[Check]:
    """What a careful reader would check first; empty where nothing of it was recorded."""
    checks = []
    compared = [value for value in view.series("health/synced_tensors")[1] if value]
    if compared:
        checks.append(
            Check(
                "ok",
                f"Every weight sync of {len(compared)} steps was compared with the engine's copy ({compared[-1]:.0f} tensors) without a difference.",
            )
        )
    digests = view.series("health/sync_digest_ok")
    if digests[1]:
        bad = [int(step) for step, ok in zip(*digests, strict=True) if not ok]
        checks.append(
            Check("warn", f"Engine weights differed from the trained ones at {steps_text(bad)}.")
            if bad
            else Check("ok", f"Engine weights equalled the trained ones at all {len(digests[1])} weight syncs.")
        )
    gaps = [value for value in view.series("health/logprob_gap_mean")[1] if value is not None]
    if gaps:
        level = "ok" if max(gaps) < GAP_LIMIT else "warn"
        checks.append(
            Check(
                level,
                f"Rollout and training log-probs differed by {short(statistics.fmean(gaps))} on average, {short(max(gaps))} in the worst step.",
            )
        )
    errors = [value for value in view.series("rollout/verifier_errors")[1] if value is not None]
    if errors:
        checks.append(
            Check("warn", f"The verifier failed on {sum(errors):.0f} responses.")
            if sum(errors)
            else Check("ok", "The verifier never failed.")
        )
    outside = [value for value in view.series("health/value_outside")[1] if value is not None]
    if outside:
        checks.append(
            Check("warn", f"Up to {100 * max(outside):.0f} % of a batch's values left the scale of the rewards.")
            if max(outside)
            else Check("ok", "Values stayed within the scale of the rewards.")
        )
    checks += signal(view)
    lost = [
        (key, step)
        for row in view.rows
        for key, value in row.items()
        if "/" in key and value is None
        for step in [row.get("step")]
    ]
    if lost:
        names = sorted({key for key, _ in lost})
        checks.append(
            Check(
                "warn",
                f"{len(lost)} values were not finite: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''} (first at step {lost[0][1]}).",
            )
        )
    checks += [Check("warn", f"{note}.") for note in view.notes]
    return checks


def signal(view: View) -> list[Check]:
    """Whether the rewards still tell responses (of one problem, where known) apart: without spread there is nothing to learn from."""
    key = "rollout/group_reward_std" if view.last("rollout/group_reward_std") is not None else "rollout/reward_std"
    xs, deviations = view.series(key)
    flat = [int(step) for step, value in zip(xs, deviations, strict=True) if value is not None and value < 1e-9]
    if not deviations:
        return []
    if flat:
        return [Check("warn", f"All rewards were equal (nothing to learn from) at {steps_text(flat)}.")]
    return [Check("ok", "Rewards differed within every step.")]


def steps_text(steps: Sequence[int]) -> str:
    shown = ", ".join(map(str, steps[:5]))
    return f"step {shown}" if len(steps) == 1 else f"{len(steps)} steps ({shown}{' ...' if len(steps) > 5 else ''})"


def event_lines(view: View) -> list[EventLine]:
    """All events in order, in words."""
    start = view.started
    lines = []
    for event in view.events:
        kind, moment = str(event.get("kind", "?")), moment_of(event)
        after = clock(max(0.0, (moment - start).total_seconds())) if moment and start else ""
        level = {"failure": "bad", "warning": "warn", "interrupted": "warn", "finish": "good"}.get(kind, "plain")
        stamp = moment.strftime("%Y-%m-%d %H:%M:%S") if moment else ""
        lines.append(
            EventLine(after, stamp, EVENT_WORDS.get(kind, kind.replace("_", " ")), event_text(kind, event), level)
        )
    return lines


def event_text(kind: str, event: Mapping[str, object]) -> str:
    """The fields of an event as a sentence or as `key value` pairs."""
    fields = {
        key: value for key, value in event.items() if key not in ("time", "kind") and value not in (None, "", [], {})
    }
    changed = fields.pop("changed", None)
    if kind == "config_changed" and isinstance(changed, dict):
        return "; ".join(
            f"{key}: {pair[0]} → {pair[1]}"
            for key, pair in changed.items()
            if isinstance(pair, list) and len(pair) == 2
        )
    argv = fields.pop("argv", None)
    message = fields.pop("message", None)
    words = [str(message)] if message else []
    words += [
        f"{key.replace('_', ' ')} {value if isinstance(value, (str, int, float)) else json.dumps(value)}"
        for key, value in fields.items()
    ]
    words += ["openrlhf-ext " + " ".join(map(str, argv))] if isinstance(argv, list) and argv else []
    return " · ".join(words)


def plan_table(plan: Mapping[str, object]) -> tuple[list[str], list[list[str]], str]:
    """The plan's groups as a table (header, rows) where it has any, and the whole plan as JSON text."""
    groups = plan.get("groups")
    text = json.dumps(plan, indent=2) if plan else ""
    if not isinstance(groups, list) or not groups or not all(isinstance(group, dict) for group in groups):
        return [], [], text
    header = list(dict.fromkeys(key for group in groups for key in group))
    return header, [[str(group.get(key, "")) for key in header] for group in groups], text
