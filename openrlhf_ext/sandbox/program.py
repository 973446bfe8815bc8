"""The process of one program: it confines itself, runs the text, and says one line about it. Nothing else here ever runs model output.

The line goes through a pipe of its own: `R` once the process is confined (before the program can say anything), then `=18.0` or
`!ZeroDivisionError: ...`. A program can write into the pipe too. That earns it nothing: it can only claim a number, as it could return one.
"""

import math
import os
import re
import sys

from openrlhf_ext.sandbox.confine import Confinement
from openrlhf_ext.sandbox.outcome import Limits

READY = b"R"
MAX_LINE = 400
MAX_DETAIL = 300
NO_MEMORY = "MemoryError"
NUMBER = re.compile(rb"=(-?[0-9]+\.[0-9]+(?:e[-+][0-9]+)?|-?[0-9]+e[-+][0-9]+)")
FAULT = re.compile(rb"!([^\n]*)", re.DOTALL)


def run_program(text: str, limits: Limits, confinement: Confinement, pipe: int, output: int) -> None:
    """Never returns. Exit code 0 = a line was said, 3 = the process could not be confined, and the pipe says why."""
    try:
        confinement.enter(limits, pipe, output)
    except BaseException as error:
        os.write(pipe, f"{type(error).__name__}: {error}"[:MAX_LINE].encode(errors="replace"))
        os._exit(3)
    try:
        os.write(pipe, READY)
        _repeatable()
        os.write(pipe, b"=" + repr(_number_of(text)).encode())
    except BaseException as error:
        os.write(pipe, b"!" + _describe(error))
    os._exit(0)


def _repeatable() -> None:
    """`random` seeds itself from the system after every fork."""
    for name in ("random", "sympy.core.random"):
        if name in sys.modules:
            sys.modules[name].seed(0)


def _number_of(text: str) -> float:
    """What `solution()` returns, as a finite float. Truth values are no numbers."""
    names: dict[str, object] = {"__name__": "program", "math": math, "sympy": sys.modules.get("sympy")}
    exec(compile(text, "<program>", "exec"), names)
    solution = names.get("solution")
    if not callable(solution):
        raise TypeError("the program defines no solution()")
    value = solution()
    if isinstance(value, bool):
        raise TypeError("solution() returned a truth value")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"solution() returned {number}")
    return number


def _describe(error: BaseException) -> bytes:
    if isinstance(error, MemoryError):
        return NO_MEMORY.encode()
    try:
        words = str(error)
    except BaseException:  # an exception of the program's own may fail to describe itself
        words = ""
    line = " ".join(f"{type(error).__name__}: {words}".split())
    return line[:MAX_DETAIL].encode("ascii", "replace")[:MAX_DETAIL]
