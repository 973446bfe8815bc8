"""Trajectory: one sampled response as OpenRLHF's rollout returns it, token in, token out, plus who and what it belongs to.

Collection, exploration, offline training, evaluation and reports share this one form; nothing is re-tokenised on the way. The fields up to
`extra_logs` are OpenRLHF's rollout response dict (openrlhf 0.11.2, `utils/agent.py`); the others are ours. See docs/formats.md.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, cast


class Trajectory(TypedDict):
    """One response. T = number of tokens of prompt and response together.

    `observation_tokens`: [T] token ids. `action_ranges`: half-open [start, end) ranges of `observation_tokens` that the policy wrote.
    `rollout_log_probs`: [T] natural-log probabilities, 0.0 outside the action ranges, or None when they were not asked for.
    """

    prompt: str
    label: str
    observation_tokens: list[int]
    action_ranges: list[tuple[int, int]]
    rollout_log_probs: list[float] | None
    reward: float | None
    scores: float | None
    truncated: bool
    extra_logs: dict[str, float]
    id: NotRequired[str]
    problem_id: NotRequired[str | int]
    sample: NotRequired[int]
    task: NotRequired[str]
    policy: NotRequired[str]
    text: NotRequired[str]
    step_starts: NotRequired[list[int]]


REQUIRED = tuple(sorted(Trajectory.__required_keys__))
MAX_PROBLEMS = 20


def problems(row: Mapping[str, object]) -> list[str]:
    """Everything wrong with one row, as `field: what` lines; empty when it is a trajectory."""
    found = [f"{name}: missing" for name in REQUIRED if name not in row]
    found += [f"{name}: {fault}" for name, fault in _type_faults(row)]
    return found or _range_faults(row)


def _type_faults(row: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name in ("prompt", "label", "id", "task", "policy", "text"):
        if name in row and not isinstance(row[name], str):
            yield name, f"expected text, found {_kind(row[name])}"
    for name in ("observation_tokens", "step_starts"):
        if name in row and not _all_of(row[name], int):
            yield name, f"expected a list of whole numbers, found {_kind(row[name])}"
    for name in ("reward", "scores"):
        if name in row and not (row[name] is None or _is_number(row[name])):
            yield name, f"expected a number or null, found {_kind(row[name])}"
    if "rollout_log_probs" in row and not (
        row["rollout_log_probs"] is None or _all_of(row["rollout_log_probs"], float)
    ):
        yield "rollout_log_probs", f"expected a list of numbers or null, found {_kind(row['rollout_log_probs'])}"
    if "truncated" in row and not isinstance(row["truncated"], bool):
        yield "truncated", f"expected true or false, found {_kind(row['truncated'])}"
    if "problem_id" in row and type(row["problem_id"]) not in (str, int):
        yield "problem_id", f"expected text or a whole number, found {_kind(row['problem_id'])}"
    if "sample" in row and not _all_of([row["sample"]], int):
        yield "sample", f"expected a whole number, found {_kind(row['sample'])}"
    extra = row.get("extra_logs", {})
    if not isinstance(extra, Mapping):
        yield "extra_logs", f"expected an object of numbers, found {_kind(extra)}"
    else:
        for key, value in extra.items():
            if not (value is None or _is_number(value)):
                yield f"extra_logs.{key}", f"expected a number, found {_kind(value)}"
    ranges = row.get("action_ranges", [])
    if not isinstance(ranges, Sequence) or not all(_all_of(item, int) and len(item) == 2 for item in ranges):
        yield "action_ranges", "expected a list of [start, end] pairs"


def _range_faults(row: Mapping[str, object]) -> list[str]:
    trajectory = cast(Trajectory, row)
    length, last, found = len(trajectory["observation_tokens"]), 0, []
    for start, end in trajectory["action_ranges"]:
        if not last <= start <= end <= length:
            found.append(
                f"action_ranges: [{start}, {end}) is not inside [{last}, {length}) (ranges ascend, tokens: {length})"
            )
        last = max(last, end)
    log_probs = trajectory["rollout_log_probs"]
    if log_probs is not None and len(log_probs) != length:
        found.append(f"rollout_log_probs: {len(log_probs)} values for {length} observation_tokens")
    starts = trajectory.get("step_starts", [])
    if list(starts) != sorted(starts) or any(not 0 <= start <= length for start in starts):
        found.append(f"step_starts: must ascend within [0, {length}]")
    return found


def _kind(value: object) -> str:
    return "null" if value is None else f"{type(value).__name__} {value!r:.40}"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _all_of(values: object, kind: type) -> bool:
    """Whether `values` is a list of plain numbers; ints pass as floats, bools pass as nothing."""
    accepted = (int, float) if kind is float else (int,)
    return isinstance(values, (list, tuple)) and all(type(value) in accepted for value in values)


def write_trajectories(path: str | os.PathLike[str], rows: Iterable[Mapping[str, object]]) -> int:
    """Write rows as jsonl or parquet (by suffix); the file appears whole or not at all. Returns how many. Raises ValueError for a bad row."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    checked = _checked(path, enumerate(rows, start=1), as_trajectory)
    try:
        count = _write_parquet(partial, checked) if _is_parquet(path) else _write_jsonl(partial, checked)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def as_trajectory(row: Mapping[str, object]) -> Trajectory | list[str]:
    """The row as a trajectory, or everything wrong with it."""
    return problems(row) or cast(Trajectory, row)


def read_trajectories(
    path: str | os.PathLike[str], read: Callable[[Mapping[str, object]], Trajectory | list[str]] = as_trajectory
) -> list[Trajectory]:
    """All trajectories of a jsonl or parquet file, in order. `read` turns one row into a trajectory or lists its faults as `field: what`.

    Raises ValueError naming file:line:field (for parquet, the row number) of up to 20 problems; FileNotFoundError for a missing file.
    """
    path = Path(path)
    return list(_checked(path, _parquet_rows(path) if _is_parquet(path) else _jsonl_rows(path), read))


def _checked(
    path: Path,
    rows: Iterable[tuple[int, Mapping[str, object]]],
    read: Callable[[Mapping[str, object]], Trajectory | list[str]],
) -> Iterator[Trajectory]:
    """Pass good rows on; after the last one, raise for all bad ones together."""
    faults: list[str] = []
    for number, row in rows:
        found = [str(row[NOT_JSON])] if NOT_JSON in row else read(row)
        if isinstance(found, list):
            faults += [f"{path}:{number}: {fault}" for fault in found]
        else:
            yield found
    if faults:
        more = [f"... and {len(faults) - MAX_PROBLEMS} more problems"] if len(faults) > MAX_PROBLEMS else []
        raise ValueError("\n".join(faults[:MAX_PROBLEMS] + more))


NOT_JSON = "\0not json"


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                row = {NOT_JSON: f"not JSON ({error})"}
            yield number, row if isinstance(row, dict) else {NOT_JSON: f"expected an object, found {_kind(row)}"}


def _write_jsonl(path: Path, rows: Iterable[Trajectory]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def _is_parquet(path: Path) -> bool:
    if path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"{path}: trajectories are stored as .jsonl or .parquet")
    return path.suffix == ".parquet"


def _write_parquet(path: Path, rows: Iterable[Trajectory]) -> int:
    """`extra_logs` is stored as JSON text, since its keys differ from task to task."""
    import pyarrow
    import pyarrow.parquet

    stored = [{**row, "extra_logs": json.dumps(row["extra_logs"])} for row in rows]
    columns = dict.fromkeys(key for row in stored for key in row)
    table = pyarrow.table({key: [row.get(key) for row in stored] for key in columns})
    pyarrow.parquet.write_table(table, path)
    return table.num_rows


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    import pyarrow.parquet

    for number, row in enumerate(pyarrow.parquet.read_table(path).to_pylist(), start=1):
        kept = {key: value for key, value in row.items() if value is not None or key in REQUIRED}
        if isinstance(kept.get("extra_logs"), str):
            kept["extra_logs"] = json.loads(str(kept["extra_logs"]))
        yield number, kept
