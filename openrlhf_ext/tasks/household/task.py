"""The task `household`: an episode in a household, won when its goal holds; label {"problem": {...}} or {"game": "path/game.tw-pddl"}.

    > go to shelf 1
    On the shelf 1, you see a mug 1.
    > take mug 1 from shelf 1
    ...

Generated problems are played by the toy (no dependency) or by ALFWorld's engine, released games by the engine alone. Reward 1 for a goal
reached within `max_turns`, else 0. `verify` replays a transcript, or a plain list of actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openrlhf_ext.tasks.base import Label, LabelError, Verdict, read_label, split_lines
from openrlhf_ext.tasks.environment import METRICS, Episode, replay, turns_of
from openrlhf_ext.tasks.household.engine import BACKENDS, engine_faults, game_file, make_environment
from openrlhf_ext.tasks.household.generate import generate
from openrlhf_ext.tasks.household.instruction import INSTRUCTIONS, READERS, STYLES, instruction
from openrlhf_ext.tasks.household.problem import HouseholdProblem, problem_from_json
from openrlhf_ext.tasks.household.walk import oracle_walk
from openrlhf_ext.tasks.options import OptionReader

REMARKS = {
    "toy": "generated household problems in the built-in toy: these are not ALFWorld figures",
    "alfworld": "generated household problems in ALFWorld's engine: these are not ALFWorld figures",
    "games": "{count} released ALFWorld games (the full valid_seen has 140, valid_unseen 134)",
}


class Household:
    """See the module. Options: backend, max_turns, style, instruction, games, engine_timeout, processes, episode_tokens."""

    metric_keys = METRICS

    def __init__(self, name: str, options: Mapping[str, object]) -> None:
        reader = OptionReader(name, options)
        self.name = name
        self.backend = reader.choice("backend", "toy", BACKENDS)
        self.max_turns = reader.integer("max_turns", 40, 1, 1000)
        self.style = reader.choice("style", "act", STYLES)
        self.instruction = reader.choice("instruction", "full", INSTRUCTIONS)
        self.games = reader.text("games", "")
        self.engine_timeout = reader.number("engine_timeout", 120.0, 0.1, 3600.0)
        self.processes = reader.integer("processes", 4, 1, 256)
        self.episode_tokens = reader.integer("episode_tokens", 4096, 16, 1 << 20)
        reader.finish()

    def episode(self, label: Label) -> Episode:
        """A new episode of the label's problem; it is not started yet. Raises LabelError, EnvironmentUnavailable."""
        problem = self._problem(label)
        environment = make_environment(self.backend, problem, timeout=self.engine_timeout)
        return Episode(environment, problem, self.max_turns, READERS[self.style])

    def opening(self, episode: Episode) -> str:
        """The instruction, if it is wanted, and the first observation."""
        if self.instruction == "none":
            return episode.seen[0]
        return f"{instruction(episode.environment.templates, self.max_turns, self.style)}\n\n{episode.seen[0]}"

    def verify(self, response: str, label: Label) -> Verdict:
        """Replays the response's turns. An empty response starts no game, so labels can be checked cheaply."""
        if not turns_of(response):
            self._problem(label)
            return Verdict(0.0, False, False, dict.fromkeys(METRICS, 0.0) | {"unfinished": 1.0})
        episode = self.episode(label)
        try:
            return replay(episode, response)
        finally:
            episode.close()

    def self_test(self) -> list[str]:
        """In the toy, the shortest walk of a problem of every type wins, one turn less does not, junk earns nothing."""
        if self.backend != "toy":
            return []  # a game of the engine takes seconds to start
        faults = []
        for problem in generate({"train": 6}, seed=0)["train"]:
            walk, label = oracle_walk(problem), {"problem": problem.to_json()}
            say = "{}" if self.style == "act" else "Action: {}"
            solved, half = ("\n".join(say.format(action) for action in part) for part in (walk, walk[:-1]))
            if len(walk) <= self.max_turns and self.verify(solved, label).reward != 1:
                faults.append(f"{problem.task_type}: the shortest walk does not win: {walk}")
            if self.verify(half, label).reward or self.verify("win the game\n\n", label).reward:
                faults.append(f"{problem.task_type}: an unfinished walk is rewarded")
        return faults

    def split(self, solution: str) -> list[str]:
        """One line per action."""
        return split_lines(solution)

    def remark(self, labels: Sequence[Label]) -> str:
        """What figures on these problems may be called."""
        real = sum("game" in read_label(label) for label in labels)
        parts = [REMARKS["games"].format(count=real)] if real else []
        return "; ".join([*parts, REMARKS[self.backend]] if real < len(labels) else parts)

    def unplayable(self) -> list[str]:
        """The engine needs its extra."""
        return engine_faults() if self.backend != "toy" else []

    def parallel(self, labels: Sequence[Label]) -> int | None:
        """How many episodes may run at once; None = any number (the toy)."""
        return self.processes if self.backend != "toy" else None

    def _problem(self, label: Label) -> HouseholdProblem | str:
        """The generated problem, or the path of a released game."""
        fields = read_label(label)
        if "game" in fields:
            if self.backend == "toy":
                raise LabelError("label: a released game is played by ALFWorld's engine: set task.backend to alfworld")
            return game_file(fields["game"], self.games)
        if "problem" not in fields:
            raise LabelError('label: neither "problem" (a generated household) nor "game" (a file game.tw-pddl)')
        try:
            return problem_from_json(fields["problem"])
        except ValueError as error:
            raise LabelError(f"label: {error}") from error
