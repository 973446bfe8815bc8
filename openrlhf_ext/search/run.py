"""Run a checked search: every chunk of problems graded and on disk before the next one starts."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from openrlhf_ext.evaluate.options import EngineOptions
from openrlhf_ext.evaluate.results import GREEDY, ModelResults, Results, pending
from openrlhf_ext.evaluate.summary import Summary, compare_with_first, markdown, summarise_model
from openrlhf_ext.record.jsonl import write_atomic
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.rollout.search import Value
from openrlhf_ext.rollout.turns import turn_format
from openrlhf_ext.search.answering import Searching
from openrlhf_ext.search.request import Arm, Checked
from openrlhf_ext.search.summary import effort, effort_table
from openrlhf_ext.search.turns import TurnSearch
from openrlhf_ext.tasks.environment import is_environment


@dataclass(frozen=True)
class ValueOptions:
    """How values are read: workers, their device, and the padded size of a micro-batch in tokens."""

    device: str
    workers: int = 1
    batch_tokens: int = 16384


@dataclass(frozen=True)
class Report:
    """Figures by arm, and the text of summary.md."""

    summaries: Mapping[str, Summary]
    text: str


def search(checked: Checked, options: EngineOptions, value_options: ValueOptions) -> Report:
    """Answer, grade and summarise. After a kill, the same call goes on with the problems that are missing."""
    results = Results(checked.request.asked.out, checked.record)
    try:
        tables = {arm.name: results.model(arm.name) for arm in checked.arms}
        dropped = sum(table.recover({GREEDY: 1}) for table in tables.values())
        count = checked.evaluation.plan.problems
        total, done = count * len(tables), sum(len(_there(table, count)) for table in tables.values())
        with Progress(total, f"search {checked.evaluation.suite.name}", done_steps=done) as progress:
            if done or dropped:
                progress.note(f"resumed: {done} of {total} answers are there, {dropped} unfinished rows dropped")
            if done < total:
                _answer(checked, tables, options, value_options, progress, done)
        return _report(checked, tables)
    finally:
        results.close()


def _answer(
    checked: Checked,
    tables: Mapping[str, ModelResults],
    options: EngineOptions,
    value_options: ValueOptions,
    progress: Progress,
    done: int,
) -> None:
    from openrlhf_ext.evaluate.engine import EnginePool
    from openrlhf_ext.search.value import ValueReaders

    searching = _searching(checked)
    with EnginePool(options, progress) as pool:
        with ValueReaders(
            checked.request.value,
            device=value_options.device,
            precision=options.precision if value_options.device == options.device else "float32",
            count=value_options.workers,
            threads=options.threads,
            batch_tokens=value_options.batch_tokens,
            timeout=options.wave_timeout,
        ) as value:
            pool.start(checked.policy, checked.evaluation.suite.task, checked.tokenizer, checked.length)
            more = {
                True: pool.continuations(checked.max_new_tokens, stop=checked.delimiters),
                False: pool.continuations(checked.max_new_tokens),
            }
            for arm in checked.arms:
                done = _run_arm(checked, searching, arm, tables[arm.name], more, value, progress, done)


def _run_arm(
    checked: Checked,
    searching: Searching,
    arm: Arm,
    table: ModelResults,
    more: Mapping,
    value: Value,
    progress: Progress,
    done: int,
) -> int:
    """Chunk by chunk; a chunk asks for at most ``wave`` continuations at once."""
    count = checked.evaluation.plan.problems
    left = pending(count, _there(table, count))
    size = max(1, checked.request.asked.wave // (arm.width * arm.samples if arm.kind == "beams" else arm.samples))
    for start in range(0, len(left), size):
        chunk = [checked.prompts[i] for i in left[start : start + size]]
        progress.phase(f"{arm.name}: {len(chunk)} problems")
        began = time.monotonic()
        rows = searching.answer(arm, chunk, more, value)
        seconds = (time.monotonic() - began) / len(chunk)
        for row in rows:
            row["search"]["seconds"] = seconds
        table.append(rows)
        done += len(rows)
        progress.step(done, correct=sum(row["correct"] for row in table.rows) / len(table.rows))
    return done


def _searching(checked: Checked) -> Searching:
    tokenizer, request = checked.tokenizer, checked.request
    texts = [prompt.text for prompt in checked.prompts]
    return Searching(
        task=checked.evaluation.task,
        decode=lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False),
        prompts=[tuple(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]],
        delimiters=checked.delimiters,
        max_new_tokens=checked.max_new_tokens,
        step_tokens=min(request.step_tokens or checked.max_new_tokens, checked.max_new_tokens),
        max_steps=request.max_steps,
        enough=request.enough,
        temperature=request.temperature,
        seed=request.asked.seed,
        turns=_turns(checked),
    )


def _turns(checked: Checked) -> TurnSearch | None:
    """How episodes are played, for a task that is played in turns."""
    task, tokenizer = checked.evaluation.task, checked.tokenizer
    if not is_environment(task):
        return None
    return TurnSearch(
        task=task,
        form=turn_format(tokenizer),
        encode=lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
        decode=lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False),
        turn_tokens=checked.max_new_tokens,
        room=checked.length,
        temperature=checked.request.temperature,
        seed=checked.request.asked.seed,
    )


def _there(table: ModelResults, problems: int) -> set[int]:
    return {problem for problem in table.done(GREEDY) if problem < problems}


def _report(checked: Checked, tables: Mapping[str, ModelResults]) -> Report:
    count = checked.evaluation.plan.problems
    rows = {name: table.select(GREEDY, count) for name, table in tables.items()}
    summaries = {name: summarise_model(of_arm, [], 1) | effort(of_arm) for name, of_arm in rows.items()}
    for name, table in tables.items():
        table.write_summary({"arm": name, "suite": checked.evaluation.suite.name, **summaries[name]})
    comparisons = compare_with_first(rows)
    suite = checked.evaluation.suite
    title = f"{suite.name}, {suite.split} split, policy {checked.policy.folder}, value {checked.request.value}"
    if is_environment(checked.evaluation.task):
        title += "\n" + checked.evaluation.task.remark([prompt.label for prompt in checked.prompts])
    text = f"{markdown(title, summaries, comparisons)}\n{effort_table(summaries)}"
    write_atomic(checked.request.asked.out / "summary.md", [text])
    figures = {"arms": summaries, "against_first": {name: asdict(c) for name, c in comparisons.items()}}
    write_atomic(checked.request.asked.out / "summary.json", [json.dumps(figures, indent=2), "\n"])
    return Report(summaries, text)
