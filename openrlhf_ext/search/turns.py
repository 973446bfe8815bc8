"""Best-of-K for an agent: in every turn the sampled turn of the highest value is played; also greedy turns, with the same loop.

All episodes advance together, so that every wave asks the engines for a turn of each. The value is read after the last token of a turn's
text, before its end token, a state in which the policy acted (rollout/search.py).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from openrlhf_ext.evaluate.asking import Continuer, Prefix
from openrlhf_ext.evaluate.heldout import evaluation_row
from openrlhf_ext.evaluate.results import GREEDY
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.rollout.search import Counts, Tokens, Value, best_of
from openrlhf_ext.rollout.turns import TurnFormat
from openrlhf_ext.search.proposing import Decode, Proposer
from openrlhf_ext.tasks.base import Verdict
from openrlhf_ext.tasks.environment import METRICS, EnvironmentTask, EnvironmentUnavailable, Episode

Encode = Callable[[str], Sequence[int]]


@dataclass
class Live:
    """An episode that is being played: its problem, its tokens so far, and what its search did."""

    prompt: Prompt
    episode: Episode
    opening: str = ""
    tokens: Tokens = ()
    spoken: int = 0
    value: float | None = None
    counts: Counts = field(default_factory=Counts)
    error: str | None = None
    full: bool = False

    @property
    def over(self) -> bool:
        return self.episode.done or self.full or self.error is not None


@dataclass(frozen=True)
class TurnSearch:
    """How episodes are played. Tokens: `turn_tokens` of one turn, `room` of a whole episode."""

    task: EnvironmentTask
    form: TurnFormat
    encode: Encode
    decode: Decode
    turn_tokens: int
    room: int
    temperature: float
    seed: int

    def play(self, problems: Sequence[Prompt], more: Continuer, value: Value | None = None, k: int = 1) -> list[dict]:
        """Graded rows of these problems, in order: K turns sampled in each state and the best one played, or greedy turns without `value`."""
        allowed = self.task.parallel([prompt.label for prompt in problems]) or len(problems)
        rows: list[dict] = []
        for start in range(0, len(problems), max(1, allowed)):
            games = [Live(prompt, self.task.episode(prompt.label)) for prompt in problems[start : start + allowed]]
            try:
                self._play(games, more, value, k)
            finally:
                for game in games:
                    game.episode.close()
            rows += [self._row(game, value is not None) for game in games]
        return rows

    def _play(self, games: Sequence[Live], more: Continuer, value: Value | None, k: int) -> None:
        for game in games:
            self._guarded(game, lambda game=game: self._start(game))  # type: ignore[misc]
        prompts = [game.tokens for game in games]
        while live := [game for game in games if not game.over]:
            turns = self._greedy(live, more) if value is None else self._best(live, prompts, more, value, k)
            for game, turn in zip(live, turns, strict=True):
                self._guarded(game, lambda game=game, turn=turn: self._answer(game, turn))  # type: ignore[misc]

    def _start(self, game: Live) -> None:
        game.episode.start()
        game.opening = self.form.first(self.task.opening(game.episode))
        game.tokens = tuple(self.encode(game.opening))
        game.full = len(game.tokens) >= self.room

    def _answer(self, game: Live, turn: tuple[Tokens, bool]) -> None:
        """Plays a turn, (its tokens without the end token, whether it ended), and appends what the game says."""
        tokens, ended = turn
        game.spoken += len(tokens) + ended
        game.tokens += tokens + ((self.form.end_id,) if ended else ())
        if not ended and len(game.tokens) >= self.room:
            game.full = True
            return
        seen = game.episode.play(self.decode(tokens))
        if not game.episode.done:
            game.tokens += tuple(self.encode(self.form.answer(seen, ended)))
            game.full = len(game.tokens) >= self.room

    def _greedy(self, live: Sequence[Live], more: Continuer) -> list[tuple[Tokens, bool]]:
        asks = [
            Prefix(
                game.tokens, 0.0, self.seed, game.prompt.problem_id, min(self.turn_tokens, self.room - len(game.tokens))
            )
            for game in live
        ]
        turns = []
        for answer in more(asks):
            tokens, ended = tuple(answer["tokens"]), answer["finish"] != "length"
            turns.append((tokens[:-1] if ended else tokens, ended))
        return turns

    def _best(
        self, live: Sequence[Live], prompts: Sequence[Tokens], more: Continuer, value: Value, k: int
    ) -> list[tuple[Tokens, bool]]:
        """The turns of the highest value. Where every sample was cut, nothing is said: an invalid action."""
        propose = Proposer(
            more=more,
            decode=self.decode,
            prompts=prompts,
            delimiters=(),
            temperature=self.temperature,
            seed=self.seed,
            max_new_tokens=self.room - min(map(len, prompts)),
            step_tokens=self.turn_tokens,
        )
        turns = []
        for game, choice in zip(live, best_of([game.tokens for game in live], propose, value, k=k), strict=True):
            for name, number in asdict(choice.counts).items():
                setattr(game.counts, name, getattr(game.counts, name) + number)
            if choice.tokens is not None:
                game.value = choice.value
            turns.append((choice.tokens or (), True))
        return turns

    def _guarded(self, game: Live, act: Callable[[], None]) -> None:
        """A game that breaks ends its own episode alone."""
        try:
            act()
        except EnvironmentUnavailable:
            game.error = traceback.format_exc(limit=4)

    def _row(self, game: Live, searched: bool) -> dict:
        episode = game.episode
        verdict = Verdict(0.0, False, False, dict.fromkeys(METRICS, 0.0)) if game.error else episode.verdict()
        answer = {
            "prompt": game.opening or game.prompt.text,
            "label": game.prompt.label,
            "text": episode.transcript(),
            "truncated": game.full and not episode.done,
            "action_ranges": [(0, game.spoken)],
        }
        effort: dict[str, object] = {"generated": game.counts.tokens if searched else game.spoken}
        if searched:
            effort |= {
                "value": game.value,
                "steps": episode.turns,
                "finished": int(episode.done),
                "finished_correct": int(verdict.correct),
                "proposed": game.counts.proposed,
                "duplicates": game.counts.duplicates,
                "cut": game.counts.cut,
                "capped": episode.timed_out,
                "values_read": game.counts.values_read,
                "candidates": [],
            }
        row = {"problem_id": game.prompt.problem_id, "mode": GREEDY, "sample": 0}
        return row | evaluation_row(answer, verdict, game.error) | {"search": effort}
