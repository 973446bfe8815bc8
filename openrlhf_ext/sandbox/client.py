"""The side of the process that wants programs run: a few fork servers, lent to one thread at a time."""

import atexit
import itertools
import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import openrlhf_ext
from openrlhf_ext.sandbox.modules import MODULES
from openrlhf_ext.sandbox.outcome import LAYERS, Capabilities, Limits, Outcome, SandboxError
from openrlhf_ext.sandbox.wire import receive, send

START_SECONDS = 180.0
"""For Python and sympy on a busy machine."""
ANSWER_SECONDS = 30.0
"""What a server may need beyond a program's wall time before it counts as dead."""
MAX_WORKERS = 4
_numbers = itertools.count(1)


class _ServerGone(Exception):
    """The connection to a server broke or it kept silent."""


class _Server:
    """One fork server and its socket; the server ends when the socket closes."""

    def __init__(self, layers: Sequence[str], modules: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        # The command line names this server alone, whatever descriptor it got: `ps` and the tests tell its processes by it.
        name = f"server {next(_numbers)} of process {os.getpid()}"
        folder = str(Path(openrlhf_ext.__file__).parents[1])
        program = (
            f"import sys; sys.path.insert(0, {folder!r}); from openrlhf_ext.sandbox.server import main; "
            f"main({theirs.fileno()}, {tuple(layers)!r}, {tuple(modules)!r})  # {name}"
        )
        keep = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        self._socket = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-B", "-W", "ignore", "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**keep, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"},
                cwd="/",
                start_new_session=True,
            )
        try:
            self.capabilities = _capabilities(self._ask(None, START_SECONDS))
        except _ServerGone as error:
            self.close()
            raise SandboxError(
                f"the sandbox's server did not start ({error}); its own message is on standard error"
            ) from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, program: str, limits: Limits) -> dict[str, object]:
        return self._ask({"program": program, "limits": limits.to_dict()}, limits.wall_seconds + ANSWER_SECONDS)

    def close(self) -> None:
        self._socket.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, request: dict[str, object] | None, seconds: float) -> dict[str, object]:
        try:
            self._socket.settimeout(seconds)
            if request is not None:
                send(self._socket, request)
            answer = receive(self._socket)
        except OSError as error:
            raise _ServerGone(f"{type(error).__name__}: {error}") from error
        if answer is None:
            raise _ServerGone("it closed its socket")
        return answer


class Sandbox:
    """Up to ``workers`` servers, started as they are needed; more threads than servers wait their turn.

    ``layers`` is what to ask the kernel for; fewer than all is for tests of each layer alone.
    """

    def __init__(
        self, workers: int | None = None, *, layers: Sequence[str] = LAYERS, modules: Sequence[str] = MODULES
    ) -> None:
        if sys.platform != "linux":
            raise SandboxError(f"programs that a model wrote are confined by Linux's kernel; this is {sys.platform}")
        self.workers = workers or min(MAX_WORKERS, len(os.sched_getaffinity(0)))
        self._layers, self._modules = tuple(layers), tuple(modules)
        self._change = threading.Condition()
        self._idle: list[_Server] = []
        self._started = 0
        self._closed = False
        self._owner = os.getpid()

    def run(self, program: str, limits: Limits | None = None) -> Outcome:
        """How the program ended. Raises SandboxError where that cannot be said: never because of what the program did."""
        limits = limits or Limits()
        for _ in range(2):
            server = self._take()
            try:
                answer = server.run(program, limits)
            except BaseException as error:
                self._discard(server)
                if isinstance(error, _ServerGone):
                    continue
                raise
            self._give(server)
            if "fault" in answer:
                raise SandboxError(f"a program could not be run: {answer['fault']}")
            return Outcome(str(answer["status"]), _text(answer["number"]), str(answer["detail"]))
        return Outcome("killed", detail="its server went down with it, twice")

    def capabilities(self) -> Capabilities:
        """Which layers hold here."""
        server = self._take()
        self._give(server)
        return server.capabilities

    def server_pids(self) -> list[int]:
        """Process ids of the idle servers."""
        with self._change:
            return [server.pid for server in self._idle]

    def close(self) -> None:
        """Ends the servers. A later `run` raises SandboxError."""
        with self._change:
            self._closed, idle = True, self._idle
            self._idle = []
            self._change.notify_all()
        if os.getpid() == self._owner:
            for server in idle:
                server.close()

    def _take(self) -> _Server:
        with self._change:
            self._change.wait_for(lambda: self._idle or self._started < self.workers or self._closed)
            if self._closed:
                raise SandboxError("the sandbox is closed")
            if self._idle:
                return self._idle.pop()
            self._started += 1
        try:
            return _Server(self._layers, self._modules)
        except BaseException:
            self._lose()
            raise

    def _give(self, server: _Server) -> None:
        with self._change:
            if not self._closed:
                self._idle.append(server)
                self._change.notify()
                return
        server.close()

    def _discard(self, server: _Server) -> None:
        server.close()
        self._lose()

    def _lose(self) -> None:
        with self._change:
            self._started -= 1
            self._change.notify()


_shared: Sandbox | None = None
_shared_lock = threading.Lock()


def run(program: str, limits: Limits | None = None) -> Outcome:
    """How the program ended, in the sandbox that this process shares."""
    return _share().run(program, limits)


def capabilities() -> Capabilities:
    """Which layers hold on this machine; starts a server that has loaded nothing, if none runs yet."""
    if (shared := _shared) is not None:
        return shared.capabilities()
    sandbox = Sandbox(1, modules=("math",))
    try:
        return sandbox.capabilities()
    finally:
        sandbox.close()


def close() -> None:
    """Ends the shared servers; the next `run` starts new ones. Also done when the interpreter exits."""
    global _shared
    with _shared_lock:
        sandbox, _shared = _shared, None
    if sandbox is not None:
        sandbox.close()


def _share() -> Sandbox:
    global _shared
    with _shared_lock:
        if _shared is None:
            made = Sandbox()
            for problem in made.capabilities().problems():
                warnings.warn(problem, RuntimeWarning, stacklevel=3)
            _shared = made
        return _shared


def _capabilities(answer: dict[str, object]) -> Capabilities:
    active, missing = answer["active"], answer["missing"]
    if not isinstance(active, list) or not isinstance(missing, dict):
        raise SandboxError(f"the sandbox's server greets with {answer!r}")
    return Capabilities(tuple(map(str, active)), {str(layer): str(reason) for layer, reason in missing.items()})


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _forget() -> None:
    """A forked process must not talk on its parent's sockets, nor wait for a lock that a thread of its parent held."""
    global _shared, _shared_lock
    _shared, _shared_lock = None, threading.Lock()


atexit.register(close)
os.register_at_fork(after_in_child=_forget)
