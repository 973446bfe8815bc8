"""ALFWorld's own engine behind the interface of the toy: one child process per game that is being played, spoken to in JSON lines.

The engine is the optional extra `alfworld`: TextWorld with a planner in C. It stays out of this process, because a game takes seconds to
load, cannot be interrupted, and may end its process when it fails. A child that is given back plays the next game.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

from openrlhf_ext.tasks.base import LabelError
from openrlhf_ext.tasks.environment import Environment, EnvironmentUnavailable, Info
from openrlhf_ext.tasks.household.instruction import shortened
from openrlhf_ext.tasks.household.pddl import to_pddl
from openrlhf_ext.tasks.household.problem import HouseholdProblem
from openrlhf_ext.tasks.household.toy import ToyHousehold

BACKENDS = ("toy", "alfworld")
DATA_VARIABLE = "ALFWORLD_DATA"
INSTALL = 'install the extra: pip install -e ".[alfworld]" (docs/household.md)'


def make_environment(backend: str, problem: HouseholdProblem | str, *, timeout: float) -> Environment:
    """The toy, or ALFWorld's engine."""
    return ToyHousehold() if backend == "toy" else EngineHousehold(timeout)


def engine_faults() -> list[str]:
    """Why the engine cannot be used; nothing is started."""
    missing = [name for name in ("textworld", "alfworld") if importlib.util.find_spec(name) is None]
    return [f"{' and '.join(missing)} not found: {INSTALL}"] if missing else []


def game_file(game: object, folder: str) -> str:
    """The path of a released game: as it is, or below `folder`, else below $ALFWORLD_DATA. Raises LabelError."""
    if not isinstance(game, str):
        raise LabelError(f"label: game: expected the path of a game.tw-pddl, found {type(game).__name__}")
    roots = [folder, os.environ.get(DATA_VARIABLE, "")]
    places = [Path(game)] if Path(game).is_absolute() else [Path(root) / game for root in roots if root]
    for place in places:
        if place.is_file():
            return str(place)
    looked = f"not at {' or '.join(map(str, places))}" if places else "and no folder is named"
    raise LabelError(f"label: game {game!r} is not there ({looked}): set task.games or ${DATA_VARIABLE}")


class EngineHousehold:
    """A game in ALFWorld's engine; `timeout` in seconds bounds every answer of the child."""

    templates: tuple[str, ...] = ()

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._child: Child | None = None
        self._admissible: list[str] = []

    def reset(self, problem: HouseholdProblem | str) -> str:
        """Loads the game. Raises EnvironmentUnavailable."""
        self.close()
        self._child = borrow()
        request: dict[str, object] = {"load": problem} if isinstance(problem, str) else {"generate": to_pddl(problem)}
        answer = self._ask(request)
        self.templates = tuple(answer["templates"])  # type: ignore[arg-type]
        return self._seen(answer)

    def step(self, action: str) -> tuple[str, float, bool, Info]:
        """The engine's answer. Commands that the game does not list are not passed on: its parser is more lenient than its list."""
        action = action.strip()
        valid = action in self._admissible
        answer = self._ask({"step": action}) if valid else None
        observation = self._seen(answer) if answer else "Nothing happens."
        won = bool(answer and answer["won"])
        info: Info = {"admissible": self._admissible, "won": won, "valid": valid}
        return observation, float(won), bool(answer and answer["done"]), info

    def admissible(self) -> list[str]:
        return list(self._admissible)

    def close(self) -> None:
        if self._child is not None:
            give_back(self._child)
            self._child = None

    def _ask(self, request: dict[str, object]) -> dict[str, object]:
        if self._child is None:
            raise EnvironmentUnavailable("the game was not started, or is closed: call reset first")
        try:
            return self._child.ask(request, self.timeout)
        except EnvironmentUnavailable:
            self._child.kill()
            self._child = None
            raise

    def _seen(self, answer: dict[str, object]) -> str:
        self._admissible = list(answer["admissible"])  # type: ignore[call-overload]
        return shortened(str(answer["observation"]))


class Child:
    """One process of the engine: a request line in, an answer line out."""

    def __init__(self) -> None:
        faults = engine_faults()
        if faults:
            raise EnvironmentUnavailable(faults[0])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openrlhf_ext.tasks.household.engine_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._buffer = b""

    def ask(self, request: dict[str, object], timeout: float) -> dict[str, object]:
        """The answer to one request. Raises EnvironmentUnavailable: no answer in time, the process ended, or the game failed."""
        what = next(iter(request))
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
        except OSError as error:
            raise EnvironmentUnavailable(f"the engine's process ended before {what!r}: {error}") from error
        line = self._line(stdout.fileno(), timeout, what)
        answer = json.loads(line)
        if "error" in answer:
            raise EnvironmentUnavailable(f"the engine failed on {what!r}: {answer['error']}")
        return dict(answer)

    def _line(self, source: int, timeout: float, what: str) -> bytes:
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([source], [], [], timeout)
            if not ready:
                raise EnvironmentUnavailable(
                    f"the engine did not answer {what!r} within {timeout:g} s: raise task.engine_timeout"
                )
            data = os.read(source, 1 << 16)
            if not data:
                code = self.process.wait()
                raise EnvironmentUnavailable(f"the engine's process ended with code {code} during {what!r}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # the pipe of a process that is gone
                    pipe.close()


_idle: list[Child] = []
_lock = threading.Lock()


def borrow() -> Child:
    """An idle child that still lives, or a new one."""
    with _lock:
        while _idle:
            child = _idle.pop()
            if child.process.poll() is None:
                return child
    return Child()


def give_back(child: Child) -> None:
    """For the next game."""
    with _lock:
        _idle.append(child)


@atexit.register
def stop_all() -> None:
    """End the idle children."""
    with _lock:
        while _idle:
            _idle.pop().kill()
