"""The filter of system calls that a program runs under.

Allowed: reading and writing the descriptors it has, memory, the clock, exit. Refused with EPERM: what an ordinary library may try on its
way and can do without, such as looking for a file, opening one to read, sleeping. Anything else kills: opening a file to write, sockets,
processes and threads, signals and their handlers, changing limits or users.
Numbers from asm/unistd_64.h and asm-generic/unistd.h; the layout of the filter from linux/filter.h and linux/seccomp.h.
"""

import ctypes
import errno
import os
import platform
import struct

from openrlhf_ext.sandbox import kernel

ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
"""`platform.machine()` -> AUDIT_ARCH_*."""

ALLOWED: dict[str, tuple[int, int]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "getpid": (39, 172),
    "exit": (60, 93),
    "uname": (63, 160),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "getppid": (110, 173),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "rseq": (334, 293),
}
REFUSED: dict[str, tuple[int, int]] = {
    "stat": (4, -1),
    "lstat": (6, -1),
    "poll": (7, -1),
    "ioctl": (16, 29),
    "pread64": (17, 67),
    "access": (21, -1),
    "select": (23, -1),
    "dup": (32, 23),
    "nanosleep": (35, 101),
    "fcntl": (72, 25),
    "getcwd": (79, 17),
    "readlink": (89, -1),
    "getrlimit": (97, 163),
    "sysinfo": (99, 179),
    "sched_getaffinity": (204, 123),
    "getdents64": (217, 61),
    "clock_nanosleep": (230, 115),
    "newfstatat": (262, 79),
    "readlinkat": (267, 78),
    "faccessat": (269, 48),
    "pselect6": (270, 72),
    "ppoll": (271, 73),
    "prlimit64": (302, 261),
    "statx": (332, 291),
    "faccessat2": (439, 439),
}
"""Both: name -> number on x86_64 and aarch64, -1 where it does not exist."""
OPENAT = (257, 56)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_LOAD_WORD, _JUMP_IF_EQUAL, _JUMP_IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _THIRD_ARGUMENT = 0, 4, 32  # offsets in struct seccomp_data; the low half of the argument
_ALLOW, _FAIL, _KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
_SECCOMP_MODE_FILTER = 2


def build_filter(machine: str | None = None) -> bytes:
    """The filter for this machine, or for another. Raises OSError (ENOSYS) for an architecture whose numbers are not listed."""
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no list of system calls for {machine}")
    column = list(ARCHITECTURES).index(machine)
    steps = [
        (_LOAD_WORD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD_WORD, 0, 0, _NUMBER),
    ]
    refuse = (_RETURN, 0, 0, _FAIL | errno.EPERM)
    for calls, answer in ((ALLOWED, (_RETURN, 0, 0, _ALLOW)), (REFUSED, refuse)):
        for numbers in calls.values():
            if numbers[column] >= 0:
                steps += [(_JUMP_IF_EQUAL, 0, 1, numbers[column]), answer]
    steps += [
        (_JUMP_IF_EQUAL, 0, 3, OPENAT[column]),
        (_LOAD_WORD, 0, 0, _THIRD_ARGUMENT),
        (_JUMP_IF_ANY_BIT, 1, 0, WRITING),
        refuse,
        (_RETURN, 0, 0, _KILL),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def install(program: bytes) -> None:
    """From here on this process runs under the filter, for good. Needs no_new_privs."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer)))
    kernel.prctl(kernel.PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_void_p(ctypes.addressof(header)))
