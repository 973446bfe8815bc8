"""Run a checked exploration on engines: every wave on disk before the next one, the same file after a kill.

FILE                 settings, solutions, then a row per prefix and round; the same bytes whatever was interrupted
FILE.request.json    what was asked, for `--resume` to compare
FILE.waves.jsonl     what each wave took: seconds, tokens, tokens that the prefix cache held
FILE.summary.json    the figures of the whole file
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.collect.growing import GrowingFile
from openrlhf_ext.data.explore import Exploration, StepRow, figures
from openrlhf_ext.data.explore_file import head_rows
from openrlhf_ext.evaluate.options import EngineOptions
from openrlhf_ext.explore.request import Checked
from openrlhf_ext.record.jsonl import append_row, dumps, read_lines, repair_tail, write_atomic
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.rollout.explore import PrefixRequest, Sampled, Sampler, explore

if TYPE_CHECKING:
    from openrlhf_ext.evaluate.engine import Continuer, EnginePool

Usage = Callable[[], Mapping[str, int]]


def explore_with_engines(checked: Checked, options: EngineOptions) -> str:
    """Explore what is missing; returns the figures as text. After a kill, the same call goes on."""
    from openrlhf_ext.evaluate.engine import EnginePool

    exploration = Exploration(checked.solutions, checked.budget)
    with open_file(checked, exploration) as file:
        with Progress(len(checked.solutions), "explore", done_steps=exploration.ended) as progress:
            for note in checked.notes:
                progress.note(note)
            if file.rows > len(checked.solutions) + 1 or file.dropped:
                torn = ", an unfinished line dropped" if file.dropped else ""
                progress.note(f"resumed: {file.rows} rows are there{torn}")
            if exploration.pending():
                with EnginePool(options, progress) as pool:
                    pool.start(checked.model, checked.task_options, checked.tokenizer, checked.length)
                    _explore(checked, exploration, file, pool, options.wave, progress)
    return finish(checked.request.out, exploration)


def open_file(checked: Checked, exploration: Exploration) -> GrowingFile:
    """The output with its first rows; what it already holds is taken into the exploration. Raises ValueError for another one's rows."""
    settings = {
        name: checked.record[name] for name in ("model", "task", "temperature", "top_p", "max_new_tokens", "seed")
    }
    head = [json.loads(dumps(row)) for row in head_rows(settings, checked.budget, checked.solutions)]

    def seen(number: int, row: dict) -> None:
        if number >= len(head):
            exploration.observe(_step(row))
        elif row != head[number]:
            raise ValueError(f"{checked.request.out}:{number + 1}: another exploration's row; choose another --out")

    file = GrowingFile(checked.request.out, checked.record, seen)
    if file.rows < len(head):
        file.append(head[file.rows :])
    return file


def _step(row: Mapping[str, object]) -> StepRow:
    completions = row.get("completions")
    if row.get("kind") != "step" or not isinstance(completions, list):
        raise ValueError(f"another exploration's row ({row.get('kind')!r} where a step belongs): choose another --out")
    return {
        "kind": "step",
        "id": str(row["id"]),
        "step": int(str(row["step"])),
        "round": int(str(row["round"])),
        "completions": completions,
    }


def _explore(
    checked: Checked, exploration: Exploration, file: GrowingFile, pool: EnginePool, wave: int, progress: Progress
) -> None:
    request = checked.request
    continued = pool.continuations(checked.max_new_tokens, request.top_p)
    sample = engine_sampler(continued, checked, request.temperature)
    diary = Diary(_beside(request.out, "waves.jsonl"), pool.usage)

    def after_wave(explored: Exploration, completions: int) -> None:
        diary.wave(completions)
        progress.step(explored.ended, wave=completions)

    progress.phase("explore")
    explore(exploration, sample, checked.task, file.append, seed=request.seed, wave=wave, after_wave=after_wave)


def engine_sampler(continued: Continuer, checked: Checked, temperature: float) -> Sampler:
    """Prefix texts to completion texts. The tokens of a prefix are those of its whole text, as a prompt of training has them."""
    from openrlhf_ext.evaluate.engine import Prefix

    tokenizer = checked.tokenizer

    def sample(requests: Sequence[PrefixRequest]) -> list[Sampled]:
        texts = list(dict.fromkeys(request.prefix for request in requests))
        ids = dict(zip(texts, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
        room = {text: checked.length - len(tokens) for text, tokens in ids.items()}
        answers = continued(
            [Prefix(tuple(ids[r.prefix]), temperature, r.seed, r.group, room=room[r.prefix]) for r in requests]
        )
        kept = [list(answer["tokens"]) for answer in answers]
        return [Sampled(tokenizer.decode(tokens, skip_special_tokens=True), len(tokens)) for tokens in kept]

    return sample


class Diary:
    """One line per wave beside the output: times and counts differ from run to run, so the output itself holds none."""

    def __init__(self, path: Path, usage: Usage) -> None:
        self.path, self.usage = path, usage
        repair_tail(path)
        self._before, self._started = usage(), time.monotonic()

    def wave(self, completions: int) -> None:
        now, ended = self.usage(), time.monotonic()
        spent = {name: now[name] - self._before[name] for name in now}
        append_row(self.path, {"completions": completions, "seconds": round(ended - self._started, 3), **spent})
        self._before, self._started = now, time.monotonic()


def finish(out: Path, exploration: Exploration) -> str:
    """Write FILE.summary.json and return what it says."""
    found = figures(exploration.walks) | _cost(_beside(out, "waves.jsonl"))
    write_atomic(_beside(out, "summary.json"), [json.dumps(found, indent=2), "\n"])
    return text_of(found)


def text_of(found: Mapping[str, object]) -> str:
    """The figures for people."""
    numbers = {name: value for name, value in found.items() if isinstance(value, (int, float))}
    lines = [
        f"{numbers['solutions']} wrong solutions: {numbers['pits']} with a pit ({numbers['answer_line_pits']} of them their answer), "
        f"{numbers['no_pit']} without, {numbers['capped']} beyond the steps explored, {numbers['one_step']} of one step",
        f"pits by step: {_pairs(found['pit_histogram'], '{:d}')}",
        f"completions that reach the answer, by step: {_pairs(found['pass_rate'], '{:.2f}')}",
        f"{numbers['completions']} completions, {numbers['tokens']} tokens: {100 * numbers['share']:.0f}% of the completions that "
        "exploring every prefix once would take",
    ]
    if "seconds" in numbers:
        lines.append(
            f"{numbers['seconds']:.0f} s in the engines, {100 * numbers['cache_hit_rate']:.0f}% of the prompt tokens from the prefix cache"
        )
    return "\n".join(lines)


def _cost(waves: Path) -> dict[str, float]:
    rows = read_lines(waves).rows
    if not rows:
        return {}
    total = {name: sum(row.get(name, 0) for row in rows) for name in ("seconds", "prompt_tokens", "cached_tokens")}
    hit = total["cached_tokens"] / total["prompt_tokens"] if total["prompt_tokens"] else 0.0
    return {"waves": len(rows), **total, "cache_hit_rate": hit}


def _pairs(values: object, form: str) -> str:
    items = values.items() if isinstance(values, Mapping) else ()
    return ", ".join(f"{step}: {form.format(value)}" for step, value in items) or "none"


def _beside(out: Path, what: str) -> Path:
    return out.with_name(f"{out.name}.{what}")
