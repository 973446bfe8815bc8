"""Run a checked evaluation: every model asked, graded and summarised; what is finished stays on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from openrlhf_ext.config.problem import ConfigError, errors
from openrlhf_ext.evaluate.agent_endpoint import AgentEndpoint
from openrlhf_ext.evaluate.asking import Answerer, ask_all
from openrlhf_ext.evaluate.endpoint import Endpoint
from openrlhf_ext.evaluate.models import Model
from openrlhf_ext.evaluate.options import EngineOptions, ServerOptions
from openrlhf_ext.evaluate.rendering import system_message
from openrlhf_ext.evaluate.request import Checked, Request, check_request
from openrlhf_ext.evaluate.results import GREEDY, SAMPLED, ModelResults, Results
from openrlhf_ext.evaluate.summary import Summary, compare_with_first, markdown, summarise_model
from openrlhf_ext.record.jsonl import write_atomic
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.tasks.environment import is_environment


@dataclass(frozen=True)
class Report:
    """What an evaluation found: figures by model, the text of summary.md, and how often engines were started."""

    summaries: Mapping[str, Summary]
    text: str
    engine_starts: int


def evaluate_models(
    models: Sequence[str], suite: str, out: Path, *, device: str | None = None, **options: object
) -> Report:
    """Evaluate from Python: ``options`` are fields of `Request` (limit, samples, resume ...). Raises ConfigError with all problems."""
    from openrlhf_ext.cluster import Cluster
    from openrlhf_ext.config.device import precision_of

    machine = Cluster.local()
    device = device or machine.device
    checked, problems = check_request(Request(suite, Path(out), tuple(models), **options), device)  # type: ignore[arg-type]
    if checked is None:
        raise ConfigError(errors(problems))
    engines = EngineOptions(device, precision_of("auto", device), threads=int(machine.cpus))
    return run_checked(checked, Path(out), engines, ServerOptions())


def run_checked(
    checked: Checked,
    out: Path,
    engine_options: EngineOptions,
    server_options: ServerOptions,
) -> Report:
    """Ask, grade and summarise. After a kill, the same call goes on with what is missing."""
    record = checked.record
    results = Results(out, record)
    try:
        names = [model.name for share in checked.shares for model in share.models] or [checked.served]
        tables = {name: results.model(_safe(name)) for name in names}
        dropped = sum(table.recover(checked.plan.sizes) for table in tables.values())
        missing = {name: checked.plan.missing(table) for name, table in tables.items()}
        total = checked.plan.total * len(tables)
        done = total - sum(missing.values())
        with Progress(total, f"evaluate {checked.suite.name}", done_steps=done) as progress:
            if done or dropped:
                progress.note(
                    f"resumed: {done} of {total} answers are there"
                    + (f", {dropped} unfinished rows dropped" if dropped else "")
                )
            starts = 0
            if sum(missing.values()) and checked.served:
                _ask_server(checked, tables[checked.served], progress, done, server_options)
            elif sum(missing.values()):
                starts = _ask_engines(checked, tables, missing, progress, done, engine_options)
        return _report(checked, out, tables, starts)
    finally:
        results.close()


def _ask_server(checked: Checked, table: ModelResults, progress: Progress, done: int, options: ServerOptions) -> None:
    suite = checked.suite
    chat = suite.template == "chat" and suite.form == "task"
    endpoint = Endpoint(
        url=checked.url,
        model=checked.served,
        max_new_tokens=suite.max_new_tokens,
        top_p=suite.top_p,
        system=system_message(suite) if chat else None,
        concurrency=options.concurrency,
        timeout=options.timeout,
        retries=options.retries,
    )
    answer: Answerer = endpoint
    if is_environment(checked.task):
        answer = AgentEndpoint(endpoint, checked.task, system_message(suite))
    ask_all(answer, checked.prompts, suite, checked.task, checked.plan, table, progress, checked.served, done)


def _ask_engines(
    checked: Checked,
    tables: Mapping[str, ModelResults],
    missing: Mapping[str, int],
    progress: Progress,
    done: int,
    engine_options: EngineOptions,
) -> int:
    """Every model that still owes answers; returns how often engines were started."""
    from openrlhf_ext.evaluate.engine import EnginePool

    with EnginePool(engine_options, progress) as pool:
        for share in checked.shares:
            owing = [model for model in share.models if missing[model.name]]
            if not owing:
                continue
            if pool.starts:
                progress.note(f"{owing[0].name} has another shape or tokenizer: a new engine start")
            pool.start(owing[0], checked.suite.task, share.tokenizer, share.length)
            for model in owing:
                if model is not owing[0]:
                    pool.exchange(model)
                answer = pool.answers(share.max_new_tokens, checked.suite.top_p)
                table = tables[model.name]
                done = ask_all(
                    answer, share.prompts, checked.suite, checked.task, checked.plan, table, progress, model.name, done
                )
                progress.note(_line(model, _write_summary(checked, model.name, table)))
        return pool.starts


def _report(checked: Checked, out: Path, tables: Mapping[str, ModelResults], starts: int) -> Report:
    plan = checked.plan
    summaries = {name: _write_summary(checked, name, table) for name, table in tables.items()}
    comparisons = compare_with_first({name: table.select(GREEDY, plan.problems) for name, table in tables.items()})
    title = f"{checked.suite.name}, {checked.suite.split} split, task {json.dumps(checked.suite.task)}"
    remark = _remark(checked)
    text = markdown("\n".join([title, *([remark] if remark else [])]), summaries, comparisons)
    write_atomic(out / "summary.md", [text])
    figures: dict[str, object] = {"remark": remark} if remark else {}
    figures |= {"models": summaries, "against_first": {name: asdict(c) for name, c in comparisons.items()}}
    write_atomic(out / "summary.json", [json.dumps(figures, indent=2), "\n"])
    return Report(summaries, text, starts)


def _remark(checked: Checked) -> str:
    """What figures of a generated environment may be called."""
    if not is_environment(checked.task):
        return ""
    prompts = checked.shares[0].prompts if checked.shares else checked.prompts
    return checked.task.remark([prompt.label for prompt in prompts])


def _write_summary(checked: Checked, name: str, table: ModelResults) -> Summary:
    """The figures of one model, also on disk: a later model's failure must not cost them."""
    plan = checked.plan
    summary = summarise_model(table.select(GREEDY, plan.problems), table.select(SAMPLED, plan.sampled), plan.samples)
    table.write_summary({"model": name, "suite": checked.suite.name, **summary})
    return summary


def _line(model: Model, summary: Summary) -> str:
    return f"{model.name}: accuracy {100 * summary['accuracy']:.1f}%, unfinished {100 * summary['unfinished']:.1f}%"


def _safe(name: str) -> str:
    """A served model's name as a folder name."""
    return name.strip("/").replace("/", "--").lstrip(".") or "model"
