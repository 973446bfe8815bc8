"""The filter of system calls: its numbers are the kernel's, and it answers as a naive reading of its steps says."""

from __future__ import annotations

import errno
import os
import re
import struct
from pathlib import Path

import pytest

from openrlhf_ext.sandbox.seccomp import ALLOWED, ARCHITECTURES, OPENAT, REFUSED, build_filter

HEADERS = {
    "x86_64": [*Path("/usr/include").glob("*/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")],
    "aarch64": [Path("/usr/include/asm-generic/unistd.h")],
}
ALLOW, FAIL, KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_numbers_are_those_of_the_headers(machine: str) -> None:
    header = next((path for path in HEADERS[machine] if path.exists()), None)
    if header is None:
        pytest.skip("no kernel headers here")
    text = header.read_text()
    numbers = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    numbers |= {
        name: numbers[other]
        for name, other in re.findall(r"#define __NR_(\w+) __NR3264_(\w+)", text)
        if other in numbers
    }
    column = list(ARCHITECTURES).index(machine)
    listed = ALLOWED | REFUSED | {"openat": OPENAT}
    assert {name: numbers.get(name, -1) for name in listed} == {name: pair[column] for name, pair in listed.items()}


def answer(program: bytes, architecture: int, number: int, flags: int = 0) -> int:
    """What the filter returns, step by step."""
    data = struct.pack("<IIQQQQ", number, architecture, 0, 1, 2, flags)
    steps = [struct.unpack_from("HBBI", program, 8 * n) for n in range(len(program) // 8)]
    at, value = 0, 0
    while True:
        code, yes, no, operand = steps[at]
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("<I", data, operand)
        elif code == 0x15:
            at += yes if value == operand else no
        elif code == 0x45:
            at += yes if value & operand else no
        else:
            assert code == 0x06
            return operand


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_only_the_listed_calls_pass(machine: str) -> None:
    program, architecture = build_filter(machine), ARCHITECTURES[machine]
    column = list(ARCHITECTURES).index(machine)
    refuse = FAIL | errno.EPERM
    allowed, refused = ({pair[column] for pair in calls.values()} for calls in (ALLOWED, REFUSED | {"openat": OPENAT}))
    assert not allowed & refused
    for number in range(600):
        expected = ALLOW if number in allowed else refuse if number in refused else KILL
        assert answer(program, architecture, number) == expected
        assert answer(program, architecture ^ 1, number) == KILL  # another architecture numbers its calls differently
    assert answer(program, architecture, 0x4000_0000) == KILL  # x86's 32-bit numbers have this bit
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_WRONLY | os.O_TMPFILE, os.O_RDWR | os.O_CLOEXEC):
        assert answer(program, architecture, OPENAT[column], flags) == KILL
    for flags in (os.O_RDONLY, os.O_CLOEXEC, os.O_DIRECTORY | os.O_NOFOLLOW, os.O_PATH & ~os.O_CREAT):
        assert answer(program, architecture, OPENAT[column], flags) == refuse


def test_nothing_listed_opens_connects_or_starts() -> None:
    starts = (
        "open",
        "creat",
        "socket",
        "connect",
        "bind",
        "clone",
        "fork",
        "exec",
        "kill",
        "ptrace",
        "prctl",
        "prlimit",
        "setuid",
        "mount",
    )
    assert not [name for name in ALLOWED if any(word in name for word in starts)]


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(OSError, match="riscv64"):
        build_filter("riscv64")
