"""Questions as the model will read them, and whether they fit: tokenizer, chat template, context length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_ext.config.problem import Problem, errors
from openrlhf_ext.data.prompts import SYSTEM, render, with_head
from openrlhf_ext.data.prompts import Problem as Question
from openrlhf_ext.evaluate.models import Model
from openrlhf_ext.evaluate.suite import Suite
from openrlhf_ext.preflight_tokens import round_trip_problems, special_problems
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.tasks import Task
from openrlhf_ext.tasks.environment import is_environment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class EngineShare:
    """Models for one engine start, with their common tokenizer, prompts and lengths in tokens (``length``: prompt and answer)."""

    models: tuple[Model, ...]
    tokenizer: PreTrainedTokenizerBase
    prompts: tuple[Prompt, ...]
    max_new_tokens: int
    length: int


def engine_share(
    suite: Suite,
    task: Task,
    questions: Sequence[Question],
    models: Sequence[Model],
    found: list[Problem],
    *,
    explicit: bool,
) -> EngineShare | None:
    """The questions as these models of one shape and tokenizer will read them; what is wrong with that is added to ``found``.

    ``explicit``: the suite's ``max_new_tokens`` was asked for. None where prompts cannot be rendered.
    """
    first = models[0]
    tokenizer = load_tokenizer(first.folder)
    if isinstance(tokenizer, Problem):
        found.append(tokenizer)
        return None
    mine = token_problems(suite, questions, first, tokenizer) + turn_problems(task, first, tokenizer)
    found += mine
    if errors(mine):
        return None
    prompts = render_prompts(suite, questions, tokenizer)
    new_tokens, longest, more = fit_context(suite, prompts, first, tokenizer, explicit=explicit)
    found += more
    length = total_length(task, first, longest, new_tokens)
    return EngineShare(tuple(models), tokenizer, tuple(prompts), new_tokens, length)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase | Problem:
    """The tokenizer beside the model, or why it does not load."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"its tokenizer does not load: {error}"
        return Problem(f"--model {folder}", what, "save the tokenizer beside the model again")


def render_prompts(
    suite: Suite, questions: Sequence[Question], tokenizer: PreTrainedTokenizerBase | None
) -> list[Prompt]:
    """The suite's prompts; ``tokenizer`` is needed for the chat template alone."""
    return [
        Prompt(i, render_question(suite, question, tokenizer), json.dumps(question.label), suite.name)
        for i, question in enumerate(questions)
    ]


def render_question(suite: Suite, question: Question, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """One prompt text."""
    if suite.form == "prompts":
        return question.question
    return with_head(render(question.question, suite.template, tokenizer, system_message(suite)), question.head)


def system_message(suite: Suite) -> str:
    """What the chat template says first; empty = nothing."""
    return SYSTEM.get(str(suite.task["name"]), "") if suite.system is None else suite.system


def token_problems(
    suite: Suite, questions: Sequence[Question], model: Model, tokenizer: PreTrainedTokenizerBase
) -> list[Problem]:
    """What the tokenizer does to the prompts, end tokens, a missing chat template."""
    where = f"--model {model.folder}"
    found = list(special_problems(where, tokenizer, model.shape))
    if suite.template == "chat" and suite.form == "task" and not tokenizer.chat_template:
        what = f"suite {suite.name!r} renders with the chat template, and this tokenizer has none"
        return [*found, Problem(where, what, "--template plain, or a model with a chat template")]
    if suite.template.endswith("-bos") and suite.form == "task" and not tokenizer.bos_token:
        what = f"template {suite.template} begins with the tokenizer's first token, and this tokenizer has none"
        return [*found, Problem(where, what, f"--template {suite.template.removesuffix('-bos')}")]
    rows = [(f"problem {i}", render_question(suite, q, tokenizer), "") for i, q in enumerate(questions)]
    return found + list(round_trip_problems(where, rows, tokenizer))


def turn_problems(task: Task, model: Model, tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
    """Why this model cannot play a task of several turns; nothing for the others."""
    if not is_environment(task):
        return []
    from openrlhf_ext.rollout.turns import NoTurns, turn_format

    try:
        turn_format(tokenizer)
    except NoTurns as error:
        fix = "a chat model, or `prepare tiny-model --task household`"
        return [Problem(f"--model {model.folder}", f"{task.name} is played in turns: {error}", fix)]
    return []


def total_length(task: Task, model: Model, longest: int, new_tokens: int) -> int:
    """Tokens of prompt and answer together at most; of a whole episode where the task has several turns."""
    if not is_environment(task):
        return longest + new_tokens
    context = model.shape.positions if model.shape else None
    return min(task.episode_tokens, context or task.episode_tokens)


def fit_context(
    suite: Suite, prompts: Sequence[Prompt], model: Model, tokenizer: PreTrainedTokenizerBase, *, explicit: bool
) -> tuple[int, int, list[Problem]]:
    """(new tokens, longest prompt in tokens, problems) for this model's context.

    A suite's own ``max_new_tokens`` gives way to a short context, which is remarked on; one that was asked for (``explicit``) does not.
    """
    lengths = [len(ids) for ids in tokenizer([p.text for p in prompts], add_special_tokens=False)["input_ids"]]
    longest, context = max(lengths), model.shape.positions if model.shape else None
    if context is None or longest + suite.max_new_tokens <= context:
        return suite.max_new_tokens, longest, []
    where, room = f"--model {model.folder}", context - longest
    if room < 1:
        too_long = sum(length >= context for length in lengths)
        what = f"{too_long} of {len(prompts)} prompts do not fit its {context} positions (longest {longest} tokens)"
        return suite.max_new_tokens, longest, [Problem(where, what, "a model with a longer context, or other data")]
    what = f"{longest} prompt + {suite.max_new_tokens} new tokens do not fit its {context} positions"
    if explicit:
        return suite.max_new_tokens, longest, [Problem(where, what, f"--max-new-tokens {room} or less")]
    return room, longest, [Problem(where, f"{what}: answers end after {room} tokens", "", note=True)]
