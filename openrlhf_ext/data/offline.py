"""Offline trajectories as a method trains on them: read, checked, filtered, with everything that was left out counted.

Two forms are accepted, also mixed in one file: trajectories (data/trajectory.py), used token for token as they were sampled, and the plain
{"prompt", "response", "reward"}, which is tokenised once; rows of `evaluate` are such, with `text` for the response. In both only the policy's own tokens are actions; failures are kept.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from openrlhf_ext.data.steps import step_starts
from openrlhf_ext.data.trajectory import Trajectory, as_trajectory, read_trajectories


class Encoded(NamedTuple):
    """Token ids of a text, and the [start, end) characters of each."""

    ids: list[int]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True)
class Reading:
    """What a file must satisfy and how plain rows become tokens.

    `reward_range`: the declared scale; `max_length`: tokens of prompt and response together; `vocabulary`: number of token ids;
    `encode` (without special tokens) and `end_id` (the token generation ends with) are needed for plain rows only;
    `decode` (special tokens left out) compares a trajectory's tokens with its `text`; `split` cuts a response into steps where none are stored.
    """

    reward_range: tuple[float, float] = (0.0, 1.0)
    max_length: int | None = None
    vocabulary: int | None = None
    encode: Callable[[str], Encoded] | None = None
    end_id: int | None = None
    decode: Callable[[Sequence[int]], str] | None = None
    split: Callable[[str], list[str]] | None = None


@dataclass(frozen=True)
class OfflineData:
    """Usable trajectories in file order. `dropped`: reason -> how many; `notes`: what the user should know; `tokenised`: plain rows."""

    trajectories: list[Trajectory]
    dropped: dict[str, int]
    notes: list[str]
    tokenised: int


def read_offline(path: str | os.PathLike[str], reading: Reading) -> OfflineData:
    """The usable trajectories of a jsonl or parquet file.

    Dropped and counted: truncated ones (their reward belongs to an ending that was cut off), those without actions, those longer than
    `max_length`. Raises ValueError naming file:line:field for broken rows, and where nothing is left or nothing succeeded.
    """
    plain = Counter[str]()
    rows = read_trajectories(path, lambda row: _read_row(row, reading, plain))
    kept: list[Trajectory] = []
    dropped = Counter[str]()
    for row in rows:
        reason = _reason_to_drop(row, reading)
        if reason:
            dropped[reason] += 1
        else:
            kept.append(row)
    notes = _judge(path, kept, dropped, reading)
    if plain["rows"]:
        notes.append(f"{path}: {plain['rows']} plain rows were tokenised; trajectories keep the sampled tokens")
    return OfflineData(kept, dict(dropped), notes, plain["rows"])


def actions(trajectory: Trajectory) -> int:
    """How many tokens the policy wrote."""
    return sum(end - start for start, end in trajectory["action_ranges"])


def problem_of(trajectory: Trajectory) -> str | int:
    """What siblings share: the problem's id, else the prompt."""
    return trajectory.get("problem_id", trajectory["prompt"])


def tokenise(
    prompt: str, response: str, encode: Callable[[str], Encoded], end_id: int
) -> tuple[list[int], int, Encoded]:
    """(all ids with the end token, how many belong to the prompt, the response's part with offsets into the response).

    The end token follows the response directly, as generation emits it.
    """
    head, tail = continuation(prompt, response, encode)
    if tail.ids[-1:] != [end_id]:
        tail = Encoded([*tail.ids, end_id], [*tail.offsets, (len(response), len(response))])
    return head + tail.ids, len(head), tail


def continuation(prompt: str, response: str, encode: Callable[[str], Encoded]) -> tuple[list[int], Encoded]:
    """(ids of the prompt, the response's part with offsets into the response); no end token is added.

    The prompt's tokens are those that generation starts from. The response is read as the continuation of the prompt, unless a token would
    straddle the two; then it is tokenised by itself.
    """
    head, whole = encode(prompt).ids, encode(prompt + response)
    if whole.ids[: len(head)] == head and all(s >= len(prompt) for s, _ in whole.offsets[len(head) :]):
        shifted = [(start - len(prompt), end - len(prompt)) for start, end in whole.offsets[len(head) :]]
        return head, Encoded(whole.ids[len(head) :], shifted)
    return head, encode(response)


def _read_row(row: Mapping[str, object], reading: Reading, plain: Counter[str]) -> Trajectory | list[str]:
    if "observation_tokens" not in row and ("response" in row or "text" in row):
        plain["rows"] += 1
        found = _from_plain(row, reading)
    else:
        found = as_trajectory(row)
    return found if isinstance(found, list) else (_faults(found, reading) or found)


def _from_plain(row: Mapping[str, object], reading: Reading) -> Trajectory | list[str]:
    if "response" not in row:
        row = {**row, "response": row["text"]}
    faults = [
        f"{name}: {f'expected text, found {type(row[name]).__name__}' if name in row else 'missing'}"
        for name in ("prompt", "response")
        if not isinstance(row.get(name), str)
    ]
    if reading.encode is None or reading.end_id is None:
        faults.append("response: a plain row needs a tokenizer with an end token; give trajectories or a tokenizer")
    reward = row.get("reward")
    if isinstance(reward, bool) or not isinstance(reward, (int, float)):
        faults.append(
            f"reward: expected a number, found {type(reward).__name__}" if "reward" in row else "reward: missing"
        )
    if faults or reading.encode is None or reading.end_id is None or not isinstance(reward, (int, float)):
        return faults
    prompt, response = str(row["prompt"]), str(row["response"])
    ids, begin, tail = tokenise(prompt, response, reading.encode, reading.end_id)
    trajectory: Trajectory = {
        "prompt": prompt,
        "label": str(row.get("label", "")),
        "observation_tokens": ids,
        "action_ranges": [(begin, len(ids))],
        "rollout_log_probs": None,
        "reward": float(reward),
        "scores": None,
        "truncated": row.get("truncated") is True,
        "extra_logs": {},
        "text": response,
    }
    problem = row.get("problem_id")
    if isinstance(problem, (str, int)):
        trajectory["problem_id"] = problem
    if reading.split is not None:
        starts = step_starts(response, tail.offsets, reading.split(response))
        trajectory["step_starts"] = [begin + start for start in starts]
    return trajectory


def _faults(row: Trajectory, reading: Reading) -> list[str]:
    """What is wrong with a well-formed trajectory as training data."""
    found = []
    low, high = reading.reward_range
    reward = row["reward"]
    if reward is None:
        found.append("reward: null; grade the responses first")
    elif not low <= reward <= high:  # nan too
        found.append(f"reward: {reward:g} is outside the declared scale [{low:g}, {high:g}]")
    tokens, ranges = row["observation_tokens"], [(s, e) for s, e in row["action_ranges"] if e > s]
    strangers = [i for i, token in enumerate(tokens) if token < 0 or token >= (reading.vocabulary or math.inf)]
    if strangers:
        found.append(
            f"observation_tokens: id {tokens[strangers[0]]} at position {strangers[0]} is none of the tokenizer's "
            f"{reading.vocabulary}: were these sampled with another tokenizer?"
        )
    if ranges and ranges[0][0] == 0:
        found.append(
            f"action_ranges: [0, {ranges[0][1]}) begins at token 0, before which there is no state; prompts need a token"
        )
    outside = [s for s in row.get("step_starts", []) if not any(start <= s < end for start, end in ranges)]
    if outside and ranges:
        found.append(f"step_starts: {outside[0]} is in no action range")
    transcript = "messages" in row  # an episode's text holds what the game said too
    if not strangers and reading.decode and row.get("text") and len(ranges) == 1 and not transcript:
        spelled = reading.decode(tokens[ranges[0][0] : ranges[0][1]])
        if not spelled.startswith(row["text"].rstrip()):
            found.append(f"text: {row['text'][:40]!r}, but the tokens spell {spelled[:40]!r}: another tokenizer?")
    return found


def _reason_to_drop(row: Trajectory, reading: Reading) -> str | None:
    if row["truncated"]:
        return "truncated"
    if actions(row) == 0:
        return "no actions"
    if reading.max_length is not None:
        first = min(start for start, end in row["action_ranges"] if end > start)
        if first >= reading.max_length:
            return "prompt too long"
        if max(end for _, end in row["action_ranges"]) > reading.max_length:
            return "too long"
    return None


def _judge(
    path: str | os.PathLike[str], kept: Sequence[Trajectory], dropped: Counter[str], reading: Reading
) -> list[str]:
    """Notes on what is left; ValueError where a run would be pointless."""
    left_out = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    if not kept:
        raise ValueError(
            f"{path}: no usable trajectory" + (f" (left out: {left_out})" if left_out else " (the file is empty)")
        )
    low, high = reading.reward_range
    rewards = [row["reward"] for row in kept]
    if all(reward == low for reward in rewards):
        raise ValueError(
            f"{path}: all {len(kept)} usable trajectories have the lowest reward {low:g}: nothing shows what to do; "
            "collect with a better model or easier problems"
        )
    notes = [f"{path}: left out {left_out} of {len(kept) + dropped.total()} trajectories"] if dropped else []
    if all(reward == high for reward in rewards):
        notes.append(
            f"{path}: no failures among {len(kept)} trajectories: V = {high:g} and the reference policy fit them without loss, "
            "so training gains nothing; keep the failed samples"
        )
    return notes
