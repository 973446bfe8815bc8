"""What keeps a program in, as far as this machine's kernel goes along.

The server asks for namespaces once (`settle`), each program is born into a process-id namespace of its own (`fork`) and then gives up the
rest for good (`enter`): descriptors, root directory, user, capabilities, files and network (Landlock), system calls (seccomp). The layers
overlap on purpose: each of them alone already stops most of what the others stop.
"""

import math
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from openrlhf_ext.sandbox import kernel, seccomp
from openrlhf_ext.sandbox.outcome import LAYERS, Capabilities, Limits
from openrlhf_ext.sandbox.rehearse import hear, rehearse, report

USER = 61183
"""The user that programs run as where we are root; nobody's by systemd's division of user ids (60578-61183 are unused)."""
MIB = 2**20


class Confinement:
    """The layers of one server. Make it in a process of one thread that serves nothing else: `settle` changes the process."""

    def __init__(self, wanted: Sequence[str] = LAYERS) -> None:
        self.active: list[str] = []
        self.missing: dict[str, str] = {layer: "not asked for" for layer in LAYERS if layer not in wanted}
        self._filter = b""
        self._ruleset = self._own_processes = -1
        self._empty = _empty_directory()
        self._mapped_bytes = 0

    def settle(self) -> Capabilities:
        """Enters the namespaces of the server and finds out what the kernel allows.

        With a process-id namespace the server goes on in a fork that is its first process, and what called this waits and ends with it.
        """
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        if set(LAYERS) - self.missing.keys() - {"seccomp", "landlock", "other user"}:
            _become_root_of_namespace()
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)  # only now: the files that map our user would else belong to root
        self._try("pid namespace", self._own_processes_too)
        self._try("network namespace", lambda: kernel.unshare(kernel.CLONE_NEWNET))
        self._try("ipc namespace", lambda: kernel.unshare(kernel.CLONE_NEWIPC))
        self._try("landlock", self._make_ruleset)
        self._try("seccomp", self._make_filter)
        self._try("empty root", lambda: rehearse(self._change_root))
        self._try("other user", lambda: rehearse(_change_user))
        self.measure()
        for layer in ("pid namespace", "landlock", "seccomp"):
            if layer in self.active:
                self._try_again(layer)
        return Capabilities(tuple(layer for layer in LAYERS if layer in self.active), dict(self.missing))

    def measure(self) -> None:
        """What is mapped now comes on top of the memory that a program may use."""
        self._mapped_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    def fork(self) -> int:
        """`os.fork` into a process-id namespace of its own: with its first process the kernel kills all that it started."""
        if "pid namespace" not in self.active:
            return os.fork()
        kernel.unshare(kernel.CLONE_NEWPID)
        child = os.fork()
        if child:
            kernel.setns(self._own_processes, kernel.CLONE_NEWPID)
        return child

    def enter(self, limits: Limits, keep: int, output: int | None = None) -> None:
        """Called in the program's own process, which keeps the descriptor ``keep`` and prints into ``output``; there is no way back."""
        os.setsid()
        self._leave_descriptors(keep, output)
        self._limit(limits)
        if "empty root" in self.active:
            os.chroot(".")
        if "other user" in self.active:
            _change_user()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user would undo it
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        kernel.drop_capabilities()
        if "landlock" in self.active:
            kernel.landlock_restrict(self._ruleset)
            os.close(self._ruleset)
        if "seccomp" in self.active:
            seccomp.install(self._filter)

    def _leave_descriptors(self, keep: int, output: int | None) -> None:
        os.fchdir(self._empty)
        null = os.open("/dev/null", os.O_RDWR)
        for standard, source in ((0, null), (1, output or null), (2, output or null)):
            os.dup2(source, standard)
        kept = {0, 1, 2, keep} | ({self._ruleset} - {-1})
        for number in map(int, os.listdir("/proc/self/fd")):
            if number not in kept:
                _close(number)

    def _limit(self, limits: Limits) -> None:
        bounds = {
            resource.RLIMIT_CPU: math.ceil(limits.cpu_seconds) + 1,  # the server is more exact
            resource.RLIMIT_AS: self._mapped_bytes + limits.memory_mib * MIB,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NPROC: 0,
            resource.RLIMIT_NOFILE: 32,
            resource.RLIMIT_MEMLOCK: 0,
            resource.RLIMIT_MSGQUEUE: 0,
        }
        for kind, bound in bounds.items():
            hard = resource.getrlimit(kind)[1]
            bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            resource.setrlimit(kind, (bound, bound))

    def _change_root(self) -> None:
        os.fchdir(self._empty)
        os.chroot(".")

    def _own_processes_too(self) -> None:
        """Only the owner of a process-id namespace may come back to it after a fork into another, so the server gets its own."""
        rehearse(lambda: kernel.unshare(kernel.CLONE_NEWPID))
        kernel.unshare(kernel.CLONE_NEWPID)
        server = os.fork()
        if server:
            _wait_and_end(server)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        self._own_processes = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def _make_ruleset(self) -> None:
        self._ruleset = kernel.landlock_ruleset()

    def _make_filter(self) -> None:
        self._filter = seccomp.build_filter()

    def _try(self, layer: str, step: Callable[[], None]) -> None:
        if layer in self.missing:
            return
        try:
            step()
        except OSError as error:
            self.missing[layer] = error.strerror or str(error)
        else:
            self.active.append(layer)

    def _try_again(self, layer: str) -> None:
        """A layer that could be prepared must also hold in a child, as a program would use it."""
        others, self.active = self.active, [layer]
        try:
            rehearse(self._try_in_child)
        except OSError as error:
            others.remove(layer)
            self.missing[layer] = error.strerror or str(error)
        finally:
            self.active = others

    def _try_in_child(self) -> None:
        read, write = os.pipe()
        child = self.fork()
        if child == 0:
            report(write, lambda: self.enter(Limits(), write))
        hear(child, read, write)


def _wait_and_end(server: int) -> None:
    """The first process of a namespace takes everything in it along; this one only keeps the place of the process that was started."""
    os.closerange(3, 1024)
    os._exit(max(0, os.waitstatus_to_exitcode(os.waitpid(server, 0)[1])))


def _become_root_of_namespace() -> None:
    """An ordinary user may make namespaces in a user namespace of its own. Where that is refused, the layers that need it report it."""
    if os.geteuid() == 0:
        return
    try:
        rehearse(_own_users)
    except OSError:
        return
    _own_users()


def _own_users() -> None:
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _change_user() -> None:
    if os.geteuid() != 0:
        raise OSError(0, "we are not root, so there is no other user to become")
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)


def _empty_directory() -> int:
    """A descriptor of a directory that is already deleted: empty, nothing can be made in it, nothing to clean up."""
    path = tempfile.mkdtemp(prefix="openrlhf-ext-sandbox-")
    try:
        os.chmod(path, 0o555)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.rmdir(path)


def _close(number: int) -> None:
    try:
        os.close(number)
    except OSError:  # the descriptor of the listing itself is gone by now
        return
