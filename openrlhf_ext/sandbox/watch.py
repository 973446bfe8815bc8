"""Watching one program from the outside: what it says and prints, its CPU time, the wall clock, and whether the client is still there."""

import os
import select
import socket
import time
from dataclasses import dataclass

from openrlhf_ext.sandbox.outcome import MAX_OUTPUT, Limits
from openrlhf_ext.sandbox.program import MAX_LINE

SECONDS_PER_LOOK = 0.25
"""At most this long between two looks at a program's CPU time (a program of several threads uses it faster than time passes)."""
_CPUCLOCK_SCHED = 2
_CHUNK = 65536


@dataclass
class Seen:
    """What a program wrote into the pipe of its result, how much it printed, and which limit of time it passed ("" = none)."""

    said: bytes = b""
    printed: int = 0
    too_long: str = ""

    def read(self, result: int, output: int) -> None:
        """Takes what lies in both pipes, as far as it is wanted."""
        while not self.too_much and (part := _available(result, MAX_LINE + 1 - len(self.said))):
            self.said += part
        while not self.too_much and (part := _available(output, _CHUNK)):
            self.printed += len(part)

    @property
    def too_much(self) -> bool:
        return len(self.said) > MAX_LINE or self.printed > MAX_OUTPUT


def watch(child: int, watched: int, result: int, output: int, limits: Limits, control: socket.socket) -> Seen:
    """Until the program ends or passes a limit; it may still run then. Where the client goes away this process ends, and the program with it."""
    deadline = time.monotonic() + limits.wall_seconds
    cpu_clock = (~child << 3) | _CPUCLOCK_SCHED  # what clock_getcpuclockid(3) computes
    seen, poll = Seen(), select.poll()
    for descriptor in (watched, result, output):
        poll.register(descriptor, select.POLLIN)
    poll.register(control.fileno(), select.POLLRDHUP)
    while True:
        cpu_left, wall_left = limits.cpu_seconds - time.clock_gettime(cpu_clock), deadline - time.monotonic()
        if cpu_left <= 0 or wall_left <= 0:
            spent = (
                f"{limits.cpu_seconds:g} s of CPU time" if cpu_left <= 0 else f"{limits.wall_seconds:g} s of wall time"
            )
            seen.too_long = f"more than {spent}"
            return seen
        ready = dict(poll.poll(1000 * max(0.001, min(cpu_left, wall_left, SECONDS_PER_LOOK))))
        if control.fileno() in ready:
            os._exit(0)
        seen.read(result, output)
        if watched in ready or seen.too_much:
            return seen
        for pipe in {result, output} & ready.keys():
            if ready[pipe] & select.POLLHUP:  # its other end is closed: it would be ready for ever
                poll.unregister(pipe)


def _available(pipe: int, count: int) -> bytes:
    try:
        return os.read(pipe, count)
    except BlockingIOError:
        return b""
