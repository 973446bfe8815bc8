"""Single responses that are good or bad, as KTO learns from them: out of graded trajectories, plain rows, or both sides of pairs.

KTO's reference point needs, for every prompt, the response of *another* problem (arXiv:2402.01306, section 4.1). Partners are chosen here, once and from
a seed, so that neither micro-batches nor ranks change who is compared with whom.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from openrlhf_ext.data.offline import Reading, problem_of, read_offline
from openrlhf_ext.data.outcomes import mismatched
from openrlhf_ext.data.pair_options import PairOptions, Tokenizer, encode_source, encoder, read_source
from openrlhf_ext.data.pairs import Finding, files_of, read_rows
from openrlhf_ext.data.trajectory import Trajectory


class Response(NamedTuple):
    """One response in token ids, `prompt` first; `problem` is what siblings share; `partner`: the response of another problem."""

    prompt: list[int]
    response: list[int]
    good: bool
    problem: str | int
    partner: list[int]


class ResponseData(NamedTuple):
    """What KTO trains on, and what is wrong or worth knowing."""

    responses: list[Response]
    findings: list[Finding]

    @property
    def counts(self) -> tuple[int, int]:
        """(good, bad)."""
        good = sum(row.good for row in self.responses)
        return good, len(self.responses) - good


def read_responses(names: str, options: PairOptions, tokenizer: Tokenizer, *, limit: int, seed: int) -> ResponseData:
    """All usable responses of the files, at most `limit` rows of them. Raises nothing for bad data: the errors are in `findings`."""
    findings: list[Finding] = []
    rows: list[Response] = []
    for path in files_of(names):
        found, theirs = (
            _of_pairs(path, options, tokenizer) if holds_pairs(path, options) else _of_rewards(path, options, tokenizer)
        )
        rows, findings = rows + found, findings + theirs
    rows = rows[:limit]
    partnered, without = with_partners(rows, options.max_length, seed)
    if without and partnered:
        what = f"{without} of {len(rows)} responses left out: no response of another problem fits behind their prompt in {options.max_length} tokens"
        findings.append(Finding(names, what, "a larger data.max_len", note=True))
    data = ResponseData(partnered, findings)
    if not any(not finding.note for finding in findings):
        findings += _judge(names, rows, data)
    return data


def holds_pairs(path: Path, options: PairOptions) -> bool:
    """Whether the file's first row has both sides of a pair."""
    rows, _ = read_rows(path)
    return bool(rows) and options.columns.chosen in rows[0][1] and options.columns.rejected in rows[0][1]


def with_partners(rows: Sequence[Response], max_length: int, seed: int) -> tuple[list[Response], int]:
    """Every response with one of another problem, which fits behind its prompt; and how many have none.

    The partner is the next one in a shuffled order; where that is too long for the prompt, the shortest response of another problem.
    """
    order = list(range(len(rows)))
    random.Random(f"kto partners {seed}").shuffle(order)
    shuffled = [rows[i] for i in order]
    partner_of = dict(zip(order, mismatched([row.problem for row in shuffled]), strict=True))
    shortest = _shortest_of_two_problems(rows)
    kept: list[Response] = []
    for i, row in enumerate(rows):
        index = partner_of[i]
        choices = [] if index is None else [shuffled[index], *(s for s in shortest if s.problem != row.problem)]
        fitting = [c.response for c in choices if len(row.prompt) + len(c.response) <= max_length]
        if fitting:
            kept.append(row._replace(partner=fitting[0]))
    return kept, len(rows) - len(kept)


def _shortest_of_two_problems(rows: Sequence[Response]) -> list[Response]:
    best: dict[str | int, Response] = {}
    for row in rows:
        if row.problem not in best or len(row.response) < len(best[row.problem].response):
            best[row.problem] = row
    return sorted(best.values(), key=lambda row: len(row.response))[:2]


def _of_pairs(path: Path, options: PairOptions, tokenizer: Tokenizer) -> tuple[list[Response], list[Finding]]:
    """Both sides of every pair, with the ends that DPO would give them."""
    read = read_source(str(path), options, limit=10**9)
    data = encode_source(read, options, tokenizer, str(path))
    rows = [
        Response(pair.prompt, side, good, pair.problem or str(pair.prompt), [])
        for pair in data.pairs
        for side, good in ((pair.chosen, True), (pair.rejected, False))
    ]
    return rows, read.findings + data.findings


def _of_rewards(path: Path, options: PairOptions, tokenizer: Tokenizer) -> tuple[list[Response], list[Finding]]:
    """Trajectories as they were sampled, plain rows tokenised once; cut off and over-long ones are left out and counted."""
    reading = Reading(
        reward_range=(-math.inf, math.inf),
        max_length=options.max_length,
        vocabulary=len(tokenizer),  # type: ignore[arg-type]
        encode=encoder(tokenizer),
        end_id=tokenizer.eos_token_id,
    )
    try:
        data = read_offline(path, reading)
    except FileNotFoundError:
        return [], read_rows(path)[1]
    except ValueError as error:
        return [], [
            Finding(str(path), line.removeprefix(f"{path}:"), "see docs/preference.md")
            for line in str(error).splitlines()
        ]
    several = [row for row in data.trajectories if len(_ranges(row)) > 1]
    if several:
        what = f"{len(several)} trajectories have several turns: KTO here is for single responses"
        return [], [Finding(str(path), what, "leave them out")]
    findings = [Finding(str(path), note.removeprefix(f"{path}: "), "", note=True) for note in data.notes]
    return [_response(row, options) for row in data.trajectories], findings


def _response(row: Trajectory, options: PairOptions) -> Response:
    ((start, end),) = _ranges(row)
    tokens, reward = row["observation_tokens"], row["reward"]
    good = reward is not None and reward >= options.good_reward
    return Response(tokens[:start], tokens[start:end], good, problem_of(row), [])


def _ranges(row: Trajectory) -> list[tuple[int, int]]:
    return [(start, end) for start, end in row["action_ranges"] if end > start]


def _judge(names: str, rows: Sequence[Response], data: ResponseData) -> list[Finding]:
    good, bad = data.counts
    problems = Counter(row.problem for row in rows)
    if len(problems) == 1:
        what = (
            "all responses belong to one problem: the reference point compares prompts with other problems' responses"
        )
        return [Finding(names, what, "responses to at least two problems")]
    if not good or not bad:
        what = f"{good} good and {bad} bad responses: KTO needs both"
        return [Finding(names, what, "--kto.good_reward at a reward that some reach and others do not")]
    return [Finding(names, f"{good} good and {bad} bad responses to {len(problems)} problems", "", note=True)]
