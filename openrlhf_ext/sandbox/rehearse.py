"""Trying a step that changes a process for good, in a child process, before this one depends on it."""

import os
from collections.abc import Callable


def rehearse(step: Callable[[], None]) -> None:
    """Runs the step in a child process and raises the OSError that it met there."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        report(write, step)
    hear(child, read, write)


def report(write: int, step: Callable[[], None]) -> None:
    """Runs the step, writes how it went into the pipe, and ends this process."""
    problem = b""
    try:
        step()
    except OSError as error:
        problem = str(error.strerror or error).encode()
    os.write(write, problem or b"ok")
    os._exit(0)


def hear(child: int, read: int, write: int) -> None:
    """Waits for the child that reports into the pipe and raises the OSError that it met."""
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    if said != "ok":
        raise OSError(0, said or "the kernel killed the process that tried")
