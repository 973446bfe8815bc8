"""One episode of an agent: OpenRLHF's multi-turn loop around a game of ours, with token-exact ranges of what the agent wrote.

The loop (``openrlhf/utils/agent.py: MultiTurnAgentExecutor``, 0.11.2) appends tokens as they were generated and never tokenises a turn of
the agent again. It has no limit for a single turn, takes an answer that was cut for a whole one, and ends silently where the context is
full; `TurnEngine` and `play` deal with these.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

import torch
from openrlhf.utils.agent import AgentInstanceBase, MultiTurnAgentExecutor

from openrlhf_ext.rollout.turns import TurnFormat, turn_format
from openrlhf_ext.tasks.base import LabelError, Verdict
from openrlhf_ext.tasks.environment import METRICS, EnvironmentTask, Episode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Engine(Protocol):
    """What generates: tokens in, vLLM's RequestOutput out."""

    async def generate(self, prompt_token_ids: list[int], sampling_params, multi_modal_data=None): ...


class EpisodeAgent(AgentInstanceBase):
    """The game as upstream's loop sees it. Games run in threads: a slow one must not hold up the engine."""

    def __init__(
        self, task: EnvironmentTask, episode: Episode, tokenizer: PreTrainedTokenizerBase, form: TurnFormat, room: int
    ) -> None:
        """``room``: tokens of the whole episode at most."""
        self.task, self.episode, self.tokenizer, self.form, self.room = task, episode, tokenizer, form, room
        self.prompt = ""
        self.tokens: list[int] = []
        self.full = False
        self.error: str | None = None
        self.seconds = 0.0

    async def reset(self, states: dict, **kwargs) -> dict:
        """Starts the game; the prompt is what the game says, rendered. Raises PromptTooLong."""
        await self._timed(self.episode.start)
        self.prompt = self.form.first(self.task.opening(self.episode))
        length = len(self.tokenizer(self.prompt, add_special_tokens=False)["input_ids"])
        if length >= self.room:
            raise PromptTooLong(f"the first observation takes {length} tokens, the whole episode may take {self.room}")
        return {"observation": self.prompt}

    def heard(self, tokens: list[int], full: bool) -> None:
        """What the engine generated for this turn. ``full``: the episode's room ended it."""
        self.tokens, self.full = tokens, full

    async def step(self, state_dict: dict, **kwargs) -> dict:
        """Plays the turn that was heard last; a turn that the end of the room cut is not played."""
        ended = self.tokens[-1:] == [self.form.end_id]
        said = self.tokenizer.decode(self.tokens[: len(self.tokens) - ended], skip_special_tokens=True)
        feedback = ""
        if not self.full:
            try:
                seen = await self._timed(lambda: self.episode.play(said))
            except Exception:  # a game that breaks is data of its episode, not the end of the engine
                self.error = traceback.format_exc(limit=4)
            else:
                feedback = "" if self.episode.done else self.form.answer(seen, ended)
        verdict = self.episode.verdict()
        return {
            "rewards": torch.tensor(0.0),  # the verdict is read from the episode
            "scores": torch.tensor(float(verdict.correct)),
            "environment_feedback": feedback,
            "done": self.episode.done or self.full or self.error is not None,
            "extra_logs": {},
        }

    def messages(self) -> list[dict[str, str]]:
        """The episode as a conversation that ends with a turn of the agent; empty where it said nothing."""
        episode = self.episode
        if not episode.said:
            return []
        read = [self.task.opening(episode), *episode.seen[1:-1]]
        turns = [(("user", seen), ("assistant", said)) for seen, said in zip(read, episode.said, strict=True)]
        return [{"role": role, "content": text} for turn in turns for role, text in turn]

    async def _timed(self, call: Callable[[], str]) -> str:
        started = time.perf_counter()
        try:
            return await asyncio.to_thread(call)
        finally:
            self.seconds += time.perf_counter() - started


class PromptTooLong(ValueError):
    """The first observation leaves no room for a turn."""


class TurnEngine:
    """The engine of one episode: no turn longer than ``turn_tokens``, each with a seed of its own, ended by the template's end token."""

    def __init__(self, engine: Engine, agent: EpisodeAgent, turn_tokens: int) -> None:
        self.engine, self.agent, self.turn_tokens = engine, agent, turn_tokens
        self.turn = 0

    async def generate(self, prompt_token_ids: list[int], sampling_params, multi_modal_data=None):
        """``sampling_params`` is upstream's copy for this turn; its ``max_tokens`` is what the episode has left."""
        left = sampling_params.max_tokens
        sampling_params.max_tokens = min(left, self.turn_tokens)
        if sampling_params.seed is not None:  # else every turn would draw the same random numbers
            sampling_params.seed = (sampling_params.seed + 7_919 * self.turn) % 2**31
        _stop_at(sampling_params, self.agent.form.end_id)
        self.turn += 1
        output = await self.engine.generate(prompt_token_ids, sampling_params, multi_modal_data)
        tokens, cut = list(output.outputs[0].token_ids), output.outputs[0].finish_reason == "length"
        output.outputs[0].token_ids = tokens
        self.agent.heard(tokens, full=cut and left <= self.turn_tokens)
        return output


def _stop_at(sampling_params, token: int) -> None:
    """vLLM derives its set of stop tokens when parameters are made; these are made already."""
    sampling_params.stop_token_ids = sorted({*(sampling_params.stop_token_ids or ()), token})
    sampling_params._all_stop_token_ids = {*sampling_params._all_stop_token_ids, token}


async def play(
    task: EnvironmentTask,
    prompt: str,
    label: str,
    sampling_params,
    max_length: int,
    tokenizer: PreTrainedTokenizerBase,
    engine: Engine,
) -> dict:
    """One episode as upstream's response dict, with ``text`` (the transcript), ``step_starts`` (the turns) and the ``verdict``.

    ``sampling_params.max_tokens`` bounds each turn, ``max_length`` the whole episode. ``truncated``: the room ended it, not the game.
    A game that cannot be played earns 0 and carries its traceback as ``verifier_error``. Raises LabelError for a broken label.
    """
    episode = task.episode(label)
    form = turn_format(tokenizer)
    agent = EpisodeAgent(task, episode, tokenizer, form, max_length)
    params = sampling_params.clone()
    turn_tokens, params.max_tokens = (
        params.max_tokens or max_length,
        1,
    )  # upstream cuts a prompt to leave this much room
    loop = MultiTurnAgentExecutor(EpisodeAgent)
    loop.agent_instance_cls = lambda: agent  # upstream makes instances without arguments
    failure = None
    try:
        response = await loop.execute(
            prompt, label, params, max_length, tokenizer, TurnEngine(engine, agent, turn_tokens)
        )
    except LabelError:
        raise
    except PromptTooLong:
        response = _nothing_said(agent, label, prompt)
    except Exception:
        if episode.seen:
            raise
        failure = traceback.format_exc(limit=4)  # the game did not start
        response = _nothing_said(agent, label, prompt)
    finally:
        await asyncio.to_thread(episode.close)
    return _finished(response, agent, agent.error or failure)


def _nothing_said(agent: EpisodeAgent, label: str, prompt: str) -> dict:
    """A response without any action."""
    tokens = agent.tokenizer(agent.prompt or prompt, add_special_tokens=False)["input_ids"]
    return {
        "prompt": prompt,
        "label": label,
        "images": None,
        "mm_train_inputs": None,
        "observation_tokens": list(tokens),
        "action_ranges": [(len(tokens), len(tokens))],
        "rollout_log_probs": None,
    }


def _finished(response: dict, agent: EpisodeAgent, error: str | None) -> dict:
    """The response with what the episode earned; what the agent did not answer any more is left out."""
    episode = agent.episode
    verdict = Verdict(0.0, False, False, dict.fromkeys(METRICS, 0.0)) if error else episode.verdict()
    end = response["action_ranges"][-1][1]
    log_probs = response["rollout_log_probs"]
    return response | {
        "prompt": agent.prompt or response["prompt"],
        "observation_tokens": response["observation_tokens"][:end],
        "rollout_log_probs": None if log_probs is None else log_probs[:end],
        "truncated": not episode.done and error is None,
        "text": episode.transcript(),
        "messages": agent.messages(),
        "step_starts": [start for start, stop in response["action_ranges"] if stop > start],
        "reward": verdict.reward,
        "scores": float(verdict.correct),
        "verdict": asdict(verdict),
        "verifier_error": error,
        "wrong_lines": None,
        "extra_logs": {
            **verdict.metrics,
            "correct": float(verdict.correct),
            "parsed": float(verdict.parsed),
            "verifier_error": float(error is not None),
            "verify_seconds": agent.seconds,
        },
    }
