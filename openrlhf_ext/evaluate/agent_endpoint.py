"""Episodes of an agent that a server plays: the conversation is kept here, the server says the next turn (chat completions)."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from openrlhf_ext.evaluate.asking import Ask
from openrlhf_ext.evaluate.endpoint import Endpoint, EndpointError
from openrlhf_ext.tasks.base import Verdict
from openrlhf_ext.tasks.environment import METRICS, EnvironmentTask, EnvironmentUnavailable, Episode

FULL = ("context length", "context window", "maximum context", "max_model_len", "too long")
"""Words with which servers refuse a conversation that has outgrown the model."""


@dataclass(frozen=True)
class AgentEndpoint:
    """Plays asks as episodes of ``task``, as many at once as the server and the games allow."""

    endpoint: Endpoint
    task: EnvironmentTask
    system: str = ""

    def __call__(self, asks: Sequence[Ask]) -> list[dict]:
        """Episodes in the order of the asks, as `rollout.agent.play` returns them, without token ids."""
        allowed = self.task.parallel([ask.prompt.label for ask in asks])
        workers = min(self.endpoint.concurrency, allowed or self.endpoint.concurrency)
        pool = ThreadPoolExecutor(max_workers=workers)
        try:
            return list(pool.map(self.play, asks))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def play(self, ask: Ask) -> dict:
        """One episode. Raises EndpointError where the server fails otherwise than by a full context."""
        episode = self.task.episode(ask.prompt.label)
        tokens, error, opening = 0, None, ask.prompt.text
        try:
            episode.start()
            opening = self.task.opening(episode)
            tokens = self._talk(episode, opening, ask)
        except EnvironmentUnavailable:
            error = traceback.format_exc(limit=4)
        finally:
            episode.close()
        verdict = Verdict(0.0, False, False, dict.fromkeys(METRICS, 0.0)) if error else episode.verdict()
        return {
            "prompt": opening,
            "label": ask.prompt.label,
            "text": episode.transcript(),
            "truncated": not episode.done and error is None,
            "action_ranges": [(0, tokens)],
            "verdict": asdict(verdict),
            "verifier_error": error,
        }

    def _talk(self, episode: Episode, opening: str, ask: Ask) -> int:
        """Turn after turn until the game ends or the context is full; returns how many tokens the server wrote."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": opening})
        tokens = 0
        while not episode.done:
            try:
                answer = self.endpoint.say(messages, ask.temperature, (ask.seed + 7_919 * episode.turns) % 2**31)
            except EndpointError as failure:
                if episode.turns and any(words in str(failure).lower() for words in FULL):
                    break
                raise
            tokens += answer["action_ranges"][0][1]
            seen = episode.play(answer["text"])
            messages += [{"role": "assistant", "content": answer["text"]}, {"role": "user", "content": seen}]
        return tokens
