"""Several runs side by side: which belong together, what sets them apart, and their final numbers with the spread over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openrlhf_ext.record.charts import Group
from openrlhf_ext.record.stats import mean_and_spread
from openrlhf_ext.record.svg import short
from openrlhf_ext.record.text import clock
from openrlhf_ext.record.verdict import verdicts
from openrlhf_ext.record.view import View

NOT_A_SETTING = (
    "run.seed",
    "run.dir",
    "run.overwrite",
    "train.seed",
    "ckpt.output_dir",
    "ckpt.path",
    "ckpt.load_enable",
    "logger.tensorboard_dir",
    "logger.wandb.run_name",
)


SHORT = {"reward": "mean reward", "length": "tokens per answer"}


@dataclass(frozen=True)
class Column:
    """One column of the comparison. `share`: shown in percent; `change`: a difference of shares, shown in signed points."""

    title: str
    share: bool
    values: tuple[float | None, ...]
    change: bool = False

    def text(self, value: float | None) -> str:
        if value is None:
            return "-"
        if self.change:
            return f"{100 * value:+.1f}"
        return f"{100 * value:.1f} %" if self.share else short(round(value, 4))

    def summary(self, indices: Sequence[int]) -> str:
        """Mean and standard deviation over some of the runs."""
        known = [value for i in indices if (value := self.values[i]) is not None]
        if not known:
            return "-"
        mean, deviation = mean_and_spread(known)
        if deviation is None:
            return self.text(mean)
        if self.share:
            return f"{self.text(mean).removesuffix(' %')} ± {100 * deviation:.1f}{'' if self.change else ' %'}"
        return f"{short(round(mean, 4))} ± {short(float(f'{deviation:.2g}'))}"


def settings(view: View) -> dict[str, object]:
    """The configuration without what may differ between seeds of one experiment."""
    kept = {key: value for key, value in view.config.items() if key not in NOT_A_SETTING}
    return {"method": view.method, **kept}


def differences(views: Sequence[View]) -> dict[str, list[object]]:
    """Settings that are not the same in all runs: {key: [value of each run]}."""
    all_settings = [settings(view) for view in views]
    keys = dict.fromkeys(key for one in all_settings for key in one)
    table = {key: [one.get(key) for one in all_settings] for key in keys}
    return {key: values for key, values in sorted(table.items()) if any(value != values[0] for value in values)}


def grouped(views: Sequence[View]) -> list[Group]:
    """Runs with equal settings together, named by what sets them apart (or by run where every run stands alone)."""
    apart = differences(views)
    found: dict[str, list[int]] = {}
    for index in range(len(views)):
        found.setdefault(repr([values[index] for values in apart.values()]), []).append(index)
    groups = []
    for colour, members in enumerate(found.values()):
        first = members[0]
        told = ", ".join(f"{key.rpartition('.')[2]} {values[first]}" for key, values in list(apart.items())[:2])
        alone = len(found) == len(views)
        name = views[first].name if alone or not told else told
        name = f"{name} ({len(members)} seeds)" if len(members) > 1 and told else name
        if not told and len(members) > 1:
            name = f"{views[first].method or 'run'} {views[first].task} ({len(members)} seeds)"
        groups.append(Group(name, colour, tuple(views[i] for i in members)))
    return groups


def final_columns(views: Sequence[View]) -> list[Column]:
    """Final numbers of all runs: evaluation first, then training, then cost."""
    found = [{(v.suite, m.key): m for v in verdicts(view.rows) for m in v.measures} for view in views]
    keys = [key for key in dict.fromkeys(key for one in found for key in one) if key[1] != "truncated"]
    suites = {suite for suite, _ in keys}
    columns = []
    for suite, key in keys:
        measures = [one.get((suite, key)) for one in found]
        share = any(measure.share for measure in measures if measure)
        name = SHORT.get(key, key)
        title = f"{suite}: {name}" if len(suites) > 1 else name
        columns.append(Column(title, share, tuple((m.after or m.before).value if m else None for m in measures)))
        if key == "accuracy" and any(m and m.after for m in measures):
            gains = tuple(m.after.value - m.before.value if m and m.after else None for m in measures)
            columns.append(Column("change (points)", True, gains, change=True))
    if not keys:
        columns.append(Column("reward", False, tuple(view.last("rollout/reward_mean") for view in views)))
        columns.append(Column("loss", False, tuple(view.last("train/loss") for view in views)))
    columns.append(Column("steps", False, tuple(float(view.last_step) for view in views)))
    columns.append(Column("tokens generated", False, tuple(view.last("rollout/tokens_total") for view in views)))
    return [column for column in columns if any(value is not None for value in column.values)]


def durations(views: Sequence[View]) -> list[str]:
    """Wall time of every run as text."""
    return [clock(view.elapsed) for view in views]
