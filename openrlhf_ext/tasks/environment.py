"""Tasks of several turns: a text environment, and one episode in it with everything counted that an evaluation reports.

To add another environment: write a class with `reset`, `step` and `close`, and a task with the methods of `EnvironmentTask` that a
`Task` lacks. Collection, training data and evaluation then come from the same code (docs/household.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypedDict, TypeGuard, TypeVar, runtime_checkable

from openrlhf_ext.tasks.base import Label, Task, Verdict

P = TypeVar("P")
P_in = TypeVar("P_in", contravariant=True)

METRICS = ("turns", "invalid_actions", "timeouts", "unfinished")


class Info(TypedDict):
    """What a step tells beside its text. `admissible`: the commands that the game accepts now, in its own words."""

    admissible: Sequence[str]
    won: bool
    valid: bool
    """Whether the action of this step was a command that the game accepted."""


class Environment(Protocol[P_in]):
    """One game. Not shared between episodes that run at the same time."""

    @property
    def templates(self) -> Sequence[str]:
        """The forms of the game's commands, such as "put {o} in/on {r}"; known after `reset`."""
        ...

    def reset(self, problem: P_in) -> str:
        """The first observation of the problem, its goal included."""
        ...

    def step(self, action: str) -> tuple[str, float, bool, Info]:
        """(observation, reward, done, info). An action that the game does not know changes nothing and is no error."""
        ...

    def admissible(self) -> Sequence[str]:
        """The commands that the game accepts now."""
        ...

    def close(self) -> None:
        """Give back what the game holds; may be called twice."""
        ...


@dataclass
class Episode(Generic[P]):
    """One game from its first observation to its end: won, or `max_turns` turns of the agent, or cut by who runs it.

    `read` finds the action in what the agent said, or None where there is none; then the game is not touched and the turn counts as
    invalid. `invalid_reply` is what the agent sees then.
    """

    environment: Environment[P]
    problem: P
    max_turns: int
    read: Callable[[str], str | None]
    invalid_reply: str = "Nothing happens."
    turns: int = 0
    invalid_actions: int = 0
    reward: float = 0.0
    won: bool = False
    done: bool = False
    said: list[str] = field(default_factory=list)
    """What the agent said, turn by turn."""
    seen: list[str] = field(default_factory=list)
    """Observations, the first one included: `seen[i + 1]` answers `said[i]`."""

    def start(self) -> str:
        """The first observation."""
        self.seen.append(self.environment.reset(self.problem))
        return self.seen[0]

    def play(self, said: str) -> str:
        """One turn of the agent; returns what it sees next. Raises RuntimeError after the end."""
        if self.done:
            raise RuntimeError(f"the episode ended after {self.turns} turns: no further turn can be played")
        self.turns += 1
        action = self.read(said)
        observation, valid = self.invalid_reply, False
        if action is not None:
            observation, reward, over, info = self.environment.step(action)
            valid, self.won, self.done = info["valid"], info["won"], over
            self.reward += reward
        self.invalid_actions += not valid
        self.done = self.done or self.turns >= self.max_turns
        self.said.append(said)
        self.seen.append(observation)
        return observation

    @property
    def timed_out(self) -> bool:
        """Whether the turns ran out."""
        return not self.won and self.turns >= self.max_turns

    def verdict(self) -> Verdict:
        """What the episode earned so far. `parsed`: at least one turn was an action of the game."""
        metrics = {
            "turns": float(self.turns),
            "invalid_actions": float(self.invalid_actions),
            "timeouts": float(self.timed_out),
            "unfinished": float(not self.done or self.timed_out),
        }
        return Verdict(self.reward, self.won, self.invalid_actions < self.turns, metrics)

    def transcript(self) -> str:
        """The whole episode for people and for `replay`: turns of the agent begin with "> ", their further lines are indented."""
        lines = list(self.seen[:1])
        for said, seen in zip(self.said, self.seen[1:], strict=True):
            lines += ["> " + said.replace("\n", "\n  "), seen]
        return "\n".join(lines)

    def close(self) -> None:
        self.environment.close()


def turns_of(transcript: str) -> list[str]:
    """What the agent said in a transcript. A text without "> " is taken as one action per line."""
    lines = transcript.split("\n")
    if not any(line.startswith("> ") for line in lines):
        return [line.strip() for line in lines if line.strip()]
    turns: list[str] = []
    speaking = False
    for line in lines:
        if line.startswith("> "):
            turns.append(line[2:])
            speaking = True
        elif speaking and line.startswith("  "):
            turns[-1] += "\n" + line[2:]
        else:
            speaking = False
    return turns


def replay(episode: Episode[P], transcript: str) -> Verdict:
    """The verdict on the turns of a transcript, played again from the first observation."""
    episode.start()
    for said in turns_of(transcript):
        if episode.done:
            break
        episode.play(said)
    return episode.verdict()


@runtime_checkable
class EnvironmentTask(Task, Protocol):
    """A task whose answer is an episode. `verify` replays a transcript."""

    episode_tokens: int
    """Tokens of an episode at most, all observations included; a shorter context of the model takes precedence."""

    def episode(self, label: Label) -> Episode:
        """A new episode of the problem in the label. Raises LabelError; EnvironmentUnavailable where its game cannot be started."""
        ...

    def opening(self, episode: Episode) -> str:
        """What the agent reads first: instruction, first observation and goal. The episode has been started."""
        ...

    def parallel(self, labels: Sequence[Label]) -> int | None:
        """How many episodes of these problems may run at once in one process; None = any number."""
        ...

    def unplayable(self) -> list[str]:
        """Why no game can be played on this machine, each with its fix. Training on stored episodes needs none."""
        ...

    def remark(self, labels: Sequence[Label]) -> str:
        """What figures on these problems may be called."""
        ...


class EnvironmentUnavailable(RuntimeError):
    """The game cannot be started or stopped answering; the message says what to do."""


def is_environment(task: Task) -> TypeGuard[EnvironmentTask]:
    """Whether the task is played over several turns."""
    return isinstance(task, EnvironmentTask)
