"""A request to search, checked against the world before anything starts: suite, policy, value network, lengths, output folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from openrlhf_ext.config.problem import Problem, errors
from openrlhf_ext.data.steps import MATH_DELIMITERS
from openrlhf_ext.evaluate.models import Model, fingerprint, folder_problems, same_tokenizer
from openrlhf_ext.evaluate.option_checks import below_one, empty_texts
from openrlhf_ext.evaluate.request import Checked as Evaluation
from openrlhf_ext.evaluate.request import Request, check_request
from openrlhf_ext.evaluate.suite import Suite
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.rollout.turns import turn_format
from openrlhf_ext.tasks.environment import is_environment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DELIMITERS: dict[str, tuple[str, ...]] = {"math": MATH_DELIMITERS}
"""Where a step ends, by task; lines for all others (OREO, arXiv:2412.16145)."""
LINES = ("\n",)


@dataclass(frozen=True)
class Arm:
    """One way to answer: ``greedy``; ``beams`` = step-level beam search of this width; ``best-of`` = this many whole answers."""

    kind: Literal["greedy", "beams", "best-of"]
    width: int = 1
    samples: int = 1
    """Continuations of each beam, or answers to choose from."""

    @property
    def name(self) -> str:
        own = f"-{self.samples}-samples" if self.kind == "beams" and self.samples != self.width else ""
        return "greedy" if self.kind == "greedy" else f"{self.kind}-{self.width}{own}"


@dataclass(frozen=True)
class SearchRequest:
    """What was asked for; None = as the suite or the task says. ``asked``: the policy on its suite."""

    asked: Request
    value: Path
    beams: tuple[int, ...] = ()
    best_of: tuple[int, ...] = ()
    samples: int | None = None
    max_steps: int = 20
    enough: int | None = None
    step_tokens: int | None = None
    delimiters: tuple[str, ...] = ()
    temperature: float = 1.0
    greedy: bool = True
    precision: str = ""

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Greedy first: the others are compared with it."""
        first = (Arm("greedy"),) if self.greedy else ()
        beams = tuple(Arm("beams", width, self.samples or width) for width in self.beams)
        return (*first, *beams, *(Arm("best-of", k, k) for k in self.best_of))


@dataclass(frozen=True)
class Checked:
    """A request that can be run. ``length``: prompt and answer in tokens; ``record``: what `evaluation.json` holds."""

    request: SearchRequest
    evaluation: Evaluation
    arms: tuple[Arm, ...]
    delimiters: tuple[str, ...]
    record: Mapping[str, object]

    @property
    def policy(self) -> Model:
        return self.evaluation.shares[0].models[0]

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.evaluation.shares[0].tokenizer

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        return self.evaluation.shares[0].prompts

    @property
    def max_new_tokens(self) -> int:
        return self.evaluation.shares[0].max_new_tokens

    @property
    def length(self) -> int:
        return self.evaluation.shares[0].length


def check(request: SearchRequest, device: str) -> tuple[Checked | None, list[Problem]]:
    """The request ready to run, or every problem that was found. Nothing is written or started."""
    found = _numbers(request)
    found += _value_problems(request.value, device)
    # What was asked of an earlier search is compared here, with more in it than an evaluation asks.
    evaluation, more = check_request(
        request.asked, device, record_of=lambda suite, record: _record(request, suite, record)
    )
    found += [_renamed(problem) for problem in more]
    if evaluation is None or errors(found):
        return None, found
    found += _turn_problems(request, evaluation)
    if errors(found):
        return None, found
    if not same_tokenizer(evaluation.shares[0].models[0].folder, request.value):
        what = (
            f"its tokenizer is not that of {evaluation.shares[0].models[0].folder}: values would be read of other texts"
        )
        return None, [*found, Problem(f"--value {request.value}", what, "the value network trained with this policy")]
    return Checked(request, evaluation, request.arms, _delimiters(request, evaluation.suite), evaluation.record), found


def _turn_problems(request: SearchRequest, evaluation: Evaluation) -> list[Problem]:
    """What a search over the turns of an agent cannot do."""
    if not is_environment(evaluation.task):
        return []
    found = []
    if request.beams:
        what = f"{evaluation.task.name} is played in turns, and a turn that was played cannot be taken back"
        found.append(Problem("--beams", what, "--best-of K: the best of K turns is played"))
    share = evaluation.shares[0]
    form = turn_format(share.tokenizer)
    if form.end_id != share.tokenizer.eos_token_id:
        what = f"turns end with {form.end!r}, which is not the tokenizer's end token: a search stops at that alone"
        found.append(Problem(f"--policy {share.models[0].folder}", what, "make it the tokenizer's eos_token"))
    return found


def _numbers(request: SearchRequest) -> list[Problem]:
    found = below_one(
        (
            *(("beams", width) for width in request.beams),
            *(("best-of", answers) for answers in request.best_of),
            ("samples", request.samples),
            ("max-steps", request.max_steps),
            ("enough", request.enough),
            ("step-tokens", request.step_tokens),
        )
    )
    for option, widths in (("--beams", request.beams), ("--best-of", request.best_of)):
        if len(set(widths)) < len(widths):
            found.append(Problem(option, f"{' '.join(map(str, widths))}: a number twice", "give each once"))
    if request.samples is not None and request.best_of:
        found.append(Problem("--samples", "belongs to --beams; --best-of K draws K answers", "leave it out"))
    if not request.temperature > 0:
        what = f"{request.temperature}, so all continuations of a beam would be the same"
        found.append(
            Problem("--temperature", what, "more than 0; greedy answers are measured beside the search anyway")
        )
    return found + empty_texts({"delimiters": request.delimiters})


def _value_problems(folder: Path, device: str) -> list[Problem]:
    where, fix = f"--value {folder}", "give RUN/value of a run of `train oreo`"
    if not folder.is_dir():
        return [Problem(where, "no such folder", fix)]
    found = [
        Problem(where, problem.what, problem.fix) for problem in folder_problems(folder, "cuda")
    ]  # no engine serves it, so vLLM's head sizes do not matter
    if not found:
        from openrlhf_ext.upstream.value_head import stores_head

        if not stores_head(str(folder), "score"):
            found.append(Problem(where, "its weights hold no value head (score.weight)", fix))
    return found


def _renamed(problem: Problem) -> Problem:
    """The option of `evaluate` in a message as it is called here."""
    return Problem(problem.where.replace("--model", "--policy"), problem.what, problem.fix, problem.note)


def _delimiters(request: SearchRequest, suite: Suite) -> tuple[str, ...]:
    """The request's, else the suite's, else the task's."""
    return request.delimiters or suite.delimiters or DELIMITERS.get(str(suite.task["name"]), LINES)


def _record(request: SearchRequest, suite: Suite, record: Mapping[str, object]) -> dict[str, object]:
    """What must be equal for two commands to be the same search; arms and rows may grow."""
    kept = {key: value for key, value in record.items() if key not in ("models", "samples", "top_p", "temperature")}
    mark = next(iter(record["models"].values()), "")  # type: ignore[attr-defined]
    weights = fingerprint(request.value) if request.value.is_dir() else ""
    return {
        **kept,
        "search_temperature": request.temperature,
        "max_steps": request.max_steps,
        "enough": request.enough,
        "step_tokens": request.step_tokens,
        "delimiters": list(_delimiters(request, suite)),
        "precision": request.precision,
        # Greedy answers do not depend on the value network; only weights are compared, not the arms asked for.
        "models": {arm.name: mark if arm.kind == "greedy" else f"{mark}, value {weights}" for arm in request.arms},
    }
