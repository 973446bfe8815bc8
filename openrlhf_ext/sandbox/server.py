"""The fork server: a small process of its own, with the usual modules loaded, that forks once per program.

It speaks with one client over one socket: a length, then JSON. It ends when the socket does, so it cannot outlive the process that uses it.
"""

import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from openrlhf_ext.sandbox.confine import Confinement
from openrlhf_ext.sandbox.modules import MODULES, load
from openrlhf_ext.sandbox.outcome import LAYERS, MAX_OUTPUT, Limits, Outcome, SandboxError
from openrlhf_ext.sandbox.program import FAULT, MAX_LINE, NO_MEMORY, NUMBER, READY, run_program
from openrlhf_ext.sandbox.watch import Seen, watch
from openrlhf_ext.sandbox.wire import receive, send

SWEEP_SECONDS = 5.0


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
        return asdict(_run(str(request["program"]), limits, confinement, control))
    except (OSError, SandboxError) as error:
        return {"fault": f"{type(error).__name__}: {error}"}


def _run(text: str, limits: Limits, confinement: Confinement, control: socket.socket) -> Outcome:
    result, result_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    output, output_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(output, False)
    try:
        child = confinement.fork()
        if child == 0:
            run_program(text, limits, confinement, result_end, output_end)
    finally:
        os.close(result_end)
        os.close(output_end)
    watched = os.pidfd_open(child)
    try:
        seen = watch(child, watched, result, output, limits, control)
        signal.pidfd_send_signal(watched, signal.SIGKILL)
        _, status, used = os.wait4(child, 0)
        seen.read(result, output)
    finally:
        for descriptor in (watched, result, output):
            os.close(descriptor)
        _sweep()
    return _judge(seen, os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, limits)


def _judge(seen: Seen, code: int, cpu_seconds: float, limits: Limits) -> Outcome:
    said = seen.said
    if not said.startswith(READY):
        why = seen.too_long or f"it ended with {code}"
        raise SandboxError(f"the process of the program did not get ready ({why}): {said.decode(errors='replace')}")
    if seen.too_long or (code == -signal.SIGKILL and cpu_seconds >= limits.cpu_seconds):
        return Outcome("time", detail=seen.too_long or f"more than {limits.cpu_seconds:g} s of CPU time")
    if seen.printed > MAX_OUTPUT:
        return Outcome("output", detail=f"it printed more than {MAX_OUTPUT} bytes")
    number, fault = NUMBER.fullmatch(said, len(READY)), FAULT.fullmatch(said, len(READY))
    if code == 0 and number:
        return Outcome("ok", number[1].decode())
    if code == 0 and fault and len(said) <= MAX_LINE:
        memory = fault[1].startswith(NO_MEMORY.encode())
        return Outcome("memory" if memory else "error", detail=fault[1].decode("ascii", "replace"))
    what = (
        "it used a system call that no program needs"
        if code == -signal.SIGSYS
        else f"it ended with {code} and no result"
    )
    return Outcome("killed", detail=what)


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
