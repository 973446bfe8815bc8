"""The fork server: a small process of its own, with the usual modules loaded, that forks once per program.

It speaks with one client over one socket: a length, then JSON. It ends when the socket does, so it cannot outlive the process that uses it.
"""

import contextlib
import gc
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from openrlhf_ext.sandbox.confine import Confinement
from openrlhf_ext.sandbox.modules import MODULES, load
from openrlhf_ext.sandbox.outcome import LAYERS, Limits, Outcome, SandboxError
from openrlhf_ext.sandbox.program import FAULT, MAX_LINE, NO_MEMORY, NUMBER, READY, run_program
from openrlhf_ext.sandbox.wire import receive, send

SWEEP_SECONDS = 5.0
SECONDS_PER_LOOK = 0.25
"""At most this long between two looks at a program's CPU time (a program of several threads uses it faster than time passes)."""
_CPUCLOCK_SCHED = 2


def main(descriptor: int, layers: Sequence[str] = LAYERS, modules: Sequence[str] = MODULES) -> None:
    """Serves the client on the socket until it closes."""
    with socket.socket(fileno=descriptor) as control:
        confinement = Confinement(layers)
        capabilities = confinement.settle()
        load(modules)
        confinement.measure()
        send(control, asdict(capabilities))
        # What is here by now is shared with every child and never freed; without this, collecting would copy it into each of them.
        gc.collect()
        gc.freeze()
        while (request := receive(control)) is not None:
            outcome = run_confined(request, confinement, control)
            send(control, outcome)


def run_confined(request: dict[str, object], confinement: Confinement, control: socket.socket) -> dict[str, object]:
    """One program, from its fork to the end of everything it started. `{"fault": ...}` where no verdict about it can be given."""
    limits = Limits(**request["limits"])  # type: ignore[arg-type]
    try:
        return asdict(_watch(str(request["program"]), limits, confinement, control))
    except (OSError, SandboxError) as error:
        return {"fault": f"{type(error).__name__}: {error}"}


def _watch(text: str, limits: Limits, confinement: Confinement, control: socket.socket) -> Outcome:
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        child = confinement.fork()
        if child == 0:
            run_program(text, limits, confinement, write)
    finally:
        os.close(write)
    watched = os.pidfd_open(child)
    try:
        said, too_long = _listen(child, read, watched, limits, control)
        signal.pidfd_send_signal(watched, signal.SIGKILL)
        _, status, used = os.wait4(child, 0)
        said += _rest(read, MAX_LINE + 1 - len(said))
    finally:
        os.close(watched)
        os.close(read)
        _sweep()
    return _judge(said, os.waitstatus_to_exitcode(status), used, too_long, limits)


def _listen(child: int, read: int, watched: int, limits: Limits, control: socket.socket) -> tuple[bytes, str]:
    """(what the program said, which limit of time it passed or ""). The client going away ends everything."""
    deadline = time.monotonic() + limits.wall_seconds
    cpu_clock = (~child << 3) | _CPUCLOCK_SCHED  # what clock_getcpuclockid(3) computes
    said, poll = b"", select.poll()
    for descriptor, events in ((read, select.POLLIN), (watched, select.POLLIN), (control.fileno(), select.POLLRDHUP)):
        poll.register(descriptor, events)
    while True:
        cpu_left, wall_left = limits.cpu_seconds - time.clock_gettime(cpu_clock), deadline - time.monotonic()
        if cpu_left <= 0:
            return said, f"more than {limits.cpu_seconds:g} s of CPU time"
        if wall_left <= 0:
            return said, f"more than {limits.wall_seconds:g} s of wall time"
        ready = dict(poll.poll(1000 * max(0.001, min(cpu_left, wall_left, SECONDS_PER_LOOK))))
        if control.fileno() in ready:
            os._exit(0)  # the program dies with its parent
        if read in ready:
            said += _rest(read, MAX_LINE + 1 - len(said))
            if len(said) > MAX_LINE:
                return said, ""
            if ready[read] & select.POLLHUP:
                poll.unregister(read)
        if watched in ready:
            return said, ""


def _rest(read: int, room: int) -> bytes:
    try:
        return os.read(read, room) if room > 0 else b""
    except BlockingIOError:
        return b""


def _judge(said: bytes, code: int, used: resource.struct_rusage, too_long: str, limits: Limits) -> Outcome:
    if not said.startswith(READY):
        raise SandboxError(
            f"the process of the program did not get ready ({too_long or f'it ended with {code}'}): {said.decode(errors='replace')}"
        )
    if too_long or (code == -signal.SIGKILL and used.ru_utime + used.ru_stime >= limits.cpu_seconds):
        return Outcome("time", detail=too_long or f"more than {limits.cpu_seconds:g} s of CPU time")
    line = said[len(READY) :]
    if len(said) > MAX_LINE:
        return Outcome("killed", detail="it wrote into the pipe of its result")
    number, fault = NUMBER.fullmatch(line), FAULT.fullmatch(line)
    if code == 0 and number:
        return Outcome("ok", number[1].decode())
    if code == 0 and fault:
        memory = fault[1].startswith(NO_MEMORY.encode())
        return Outcome("memory" if memory else "error", detail=fault[1].decode("ascii", "replace"))
    return Outcome("killed", detail=f"it ended with {code} and no result")


def _sweep() -> None:
    """Kills whatever a program left behind. Orphans of our children become our children; with a pid namespace none are left."""
    deadline = time.monotonic() + SWEEP_SECONDS
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
    raise SandboxError(f"processes that a program left behind could not be killed within {SWEEP_SECONDS:g} s")


def _children() -> list[int]:
    """Process ids of this process's children, from the fourth field of /proc/<pid>/stat; in a namespace of its own, simply all (-1)."""
    if os.getpid() == 1:
        return [-1]
    found, mine = [], str(os.getpid())
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[1] == mine:
                found.append(int(entry.name))
    return found
