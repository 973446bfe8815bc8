"""Linux calls that Python 3.11 does not offer: namespaces, capabilities, Landlock. Each raises OSError with what was asked.

Numbers from linux/sched.h, linux/prctl.h, linux/capability.h and linux/landlock.h; Landlock's syscalls have the same numbers everywhere.
"""

import ctypes
import os
import struct

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x0002_0000, 0x0800_0000, 0x1000_0000
CLONE_NEWPID, CLONE_NEWNET = 0x2000_0000, 0x4000_0000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 4, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38

_LANDLOCK_CREATE, _LANDLOCK_RESTRICT, _LANDLOCK_VERSION = 444, 446, 1
_LANDLOCK_FILES = {1: 13, 2: 14, 3: 15, 4: 15}
"""ABI -> how many rights on files it knows; 16 from ABI 5 on."""
_LANDLOCK_TCP, _LANDLOCK_SCOPES = 0b11, 0b11
"""bind and connect (ABI 4); abstract sockets and signals outside the domain (ABI 6)."""

_CAPABILITY_VERSION_3 = 0x2008_0522

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, argument: int | ctypes.c_void_p, second: int | ctypes.c_void_p = 0) -> None:
    words = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in (argument, second, 0, 0)]
    _checked(_libc.prctl(ctypes.c_int(option), *words), f"prctl({option})")


def unshare(flags: int) -> None:
    _checked(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(file: int, kind: int) -> None:
    _checked(_libc.setns(ctypes.c_int(file), ctypes.c_int(kind)), "setns")


def drop_capabilities() -> None:
    """Gives up every capability of this thread, for good once no_new_privs is set."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, bytes(24)), "capset")


def landlock_abi() -> int:
    """Raises OSError where the kernel has no Landlock or it is turned off."""
    return _syscall("landlock", _LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION)


def landlock_ruleset() -> int:
    """A file descriptor of rules that allow nothing: no file, no TCP, no signal to a process outside."""
    abi = landlock_abi()
    files = (1 << _LANDLOCK_FILES.get(abi, 16)) - 1
    words = [files] + [_LANDLOCK_TCP] * (abi >= 4) + [_LANDLOCK_SCOPES] * (abi >= 6)
    attributes = struct.pack(f"{len(words)}Q", *words)
    return _syscall("landlock_create_ruleset", _LANDLOCK_CREATE, attributes, len(attributes), 0)


def landlock_restrict(ruleset: int) -> None:
    """Needs no_new_privs."""
    _syscall("landlock_restrict_self", _LANDLOCK_RESTRICT, ruleset, 0)


def _syscall(name: str, number: int, *arguments: int | bytes | None) -> int:
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *words), name)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result
