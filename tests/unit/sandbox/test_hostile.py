"""What a program must not be able to do, with all layers and with each of the strong ones alone.

Every hostile program earns no number, leaves no process behind, and the next ordinary program runs.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openrlhf_ext.sandbox import LAYERS, Limits, Outcome, Sandbox
from openrlhf_ext.sandbox.confine import USER

pytestmark = pytest.mark.timeout(300)

SHORT = Limits(cpu_seconds=0.5, wall_seconds=2.0, memory_mib=128)
HONEST = "def solution():\n    return 6 * 3\n"
MODULES = ("math", "time", "random")


@pytest.fixture(scope="module")
def full() -> Iterator[Sandbox]:
    sandbox = Sandbox(1, modules=MODULES)
    yield sandbox
    sandbox.close()


@pytest.fixture
def made() -> Iterator[list[Sandbox]]:
    """Sandboxes to close at the end of the test."""
    sandboxes: list[Sandbox] = []
    yield sandboxes
    for sandbox in sandboxes:
        sandbox.close()


def body(*lines: str) -> str:
    return "def solution():\n" + "".join(f"    {line}\n" for line in lines)


def processes_of(sandbox: Sandbox) -> set[int]:
    """Live processes of the sandbox, its servers included: a fork keeps its command line, whoever its parent is."""
    lines = {Path(f"/proc/{pid}/cmdline").read_bytes() for pid in sandbox.server_pids()}
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                same = (entry / "cmdline").read_bytes() in lines
            except OSError:
                continue
            if same:
                found.add(int(entry.name))
    return found


def run(sandbox: Sandbox, program: str) -> Outcome:
    """The program's outcome; checks what holds after every program."""
    assert sandbox.run(HONEST).number == "18.0"
    servers, at_rest = sandbox.server_pids(), processes_of(sandbox)
    outcome = sandbox.run(program, SHORT)
    assert sandbox.server_pids() == servers  # it did not go down
    assert processes_of(sandbox) == at_rest and 1 <= len(at_rest) <= 2
    assert sandbox.run(HONEST).number == "18.0"
    return outcome


LOOPS = {
    "loop": body("while True: pass"),
    "loop in C": body("return 10 ** 10 ** 8"),
    "loop that catches everything": body(
        "while True:", "    try:", "        while True: pass", "    except BaseException: pass"
    ),
    "loop at import": "while True: pass\n",
    "regular expression": "import re\n" + body("return len(re.match('(a+)+$', 'a' * 64 + 'b').group())"),
    "number that takes for ever to print": "class N:\n    def __float__(self):\n        while True: pass\n"
    + body("return N()"),
}


@pytest.mark.parametrize("name", LOOPS)
def test_computing_for_ever(full: Sandbox, name: str) -> None:
    started = time.monotonic()
    assert run(full, LOOPS[name]).status == "time"
    assert time.monotonic() - started < 30


def test_waiting_for_ever(full: Sandbox) -> None:
    outcome = run(full, "import threading\n" + body("lock = threading.Lock()", "lock.acquire()", "lock.acquire()"))
    assert outcome.status == "time" and "2 s of wall time" in outcome.detail


@pytest.mark.parametrize(("layers", "status"), [(LAYERS, "killed"), (("pid namespace",), "time"), ((), "time")])
def test_signal_handlers_do_not_help(made: list[Sandbox], layers: tuple[str, ...], status: str) -> None:
    made.append(sandbox := Sandbox(1, layers=layers, modules=(*MODULES, "signal")))
    ignore = (
        "for s in range(1, 65):",
        "    try: signal.signal(s, signal.SIG_IGN)",
        "    except (OSError, ValueError): pass",
    )
    assert run(sandbox, "import signal\n" + body(*ignore, "while True: pass")).status == status


MEMORY = {
    "list": body("return len([0] * 10 ** 9)"),
    "growing text": body("s = 'a' * 1000", "while True: s += s"),
    "many": body("x = []", "while True: x.append(bytearray(10 ** 6))"),
    "deep text": "x = " + "(" * 100_000 + "\n",
}


@pytest.mark.parametrize("name", MEMORY)
def test_memory(full: Sandbox, name: str) -> None:
    assert run(full, MEMORY[name]).status in ("memory", "error", "killed")


DAEMON = body(
    "import os, time",
    "if os.fork() == 0:",
    "    os.setsid()",
    "    if os.fork() == 0:",
    "        os.setsid()",
    "        end = time.time() + 60",
    "        while time.time() < end: pass",
    "    os._exit(0)",
    "return 1",
)
BOMB = body("import os", "while True:", "    try: os.fork()", "    except OSError: pass")


def test_no_second_process(full: Sandbox) -> None:
    assert run(full, DAEMON).status == "killed"
    assert run(full, BOMB).status == "killed"
    swallowed = body("import os", "try: os.system('true')", "except OSError: pass", "return 18")
    assert run(full, swallowed).status == "killed"  # trying is enough


def test_no_thread(full: Sandbox) -> None:
    assert run(full, "import _thread\n" + body("_thread.start_new_thread(print, ())", "return 1")).status == "killed"


def test_a_daemon_dies_with_its_program_without_the_filter_of_system_calls(made: list[Sandbox]) -> None:
    made.append(sandbox := Sandbox(1, layers=("pid namespace",), modules=MODULES))
    if "pid namespace" not in sandbox.capabilities().active:
        pytest.skip("this kernel gives us no process-id namespace")
    # As root nothing bounds the number of processes in this combination: the fork works, and the kernel kills what it made.
    assert run(sandbox, DAEMON).status == ("ok" if os.geteuid() == 0 else "error")


def test_a_daemon_is_swept_up_without_any_layer(made: list[Sandbox]) -> None:
    made.append(sandbox := Sandbox(1, layers=(), modules=MODULES))
    assert not sandbox.capabilities().active
    assert run(sandbox, DAEMON).status == ("ok" if os.geteuid() == 0 else "error")


def test_a_fork_bomb_of_another_user_meets_the_limit_of_processes(made: list[Sandbox]) -> None:
    made.append(sandbox := Sandbox(1, layers=("other user",), modules=MODULES))
    if "other user" not in sandbox.capabilities().active:
        pytest.skip("needs root")
    assert run(sandbox, DAEMON).status == "error"
    assert run(sandbox, BOMB).status == "time"


def files(folder: Path) -> dict[str, str]:
    mine, secret = folder / "made", folder / "secret"
    return {
        "write": body(f"open({str(mine)!r}, 'w').write('x')", "return 1"),
        "append": body(f"open({str(secret)!r}, 'a').write('x')", "return 1"),
        "delete": body("import os", f"os.unlink({str(secret)!r})", "return 1"),
        "rename": body("import os", f"os.rename({str(secret)!r}, {str(mine)!r})", "return 1"),
        "truncate": body("import os", f"os.truncate({str(secret)!r}, 0)", "return 1"),
        "directory": body("import os", f"os.mkdir({str(mine)!r})", "return 1"),
        "link": body("import os", f"os.symlink('/etc', {str(mine)!r})", "return 1"),
        "here": body("open('made', 'w').write('x')", "return 1"),
        "read": body(f"return float(open({str(secret)!r}).read())"),
        "users": body("return len(open('/etc/shadow').read())"),
        "environment": body("return len(open('/proc/self/environ').read())"),
        "our source": body(f"return len(open({__file__!r}).read())"),
        "list": body("import os", "return len(os.listdir('/'))"),
        "climb": body("import os", "os.chroot('.')", "os.chdir('..')", "return 1"),
    }


@pytest.mark.parametrize("layers", [LAYERS, ("seccomp",), ("landlock",), ("empty root", "other user")], ids="+".join)
@pytest.mark.parametrize("name", files(Path("/")))
def test_no_file_is_read_or_written(made: list[Sandbox], tmp_path: Path, name: str, layers: tuple[str, ...]) -> None:
    made.append(sandbox := Sandbox(1, layers=layers, modules=MODULES))
    absent = set(layers) - set(sandbox.capabilities().active)
    if absent and layers != LAYERS:
        pytest.skip(f"not on this machine: {', '.join(absent)}")
    tmp_path.chmod(0o777)
    (tmp_path / "secret").write_text("7")
    (tmp_path / "secret").chmod(0o666)
    if name == "list" and layers == ("empty root", "other user"):
        assert run(sandbox, files(tmp_path)[name]).number == "0.0"
    else:
        writes = name in ("write", "append", "delete", "rename", "truncate", "directory", "link", "here", "climb")
        assert run(sandbox, files(tmp_path)[name]).status == ("killed" if writes and "seccomp" in layers else "error")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").read_text() == "7"


def test_without_any_layer_these_programs_would_get_through(made: list[Sandbox], tmp_path: Path) -> None:
    made.append(sandbox := Sandbox(1, layers=(), modules=MODULES))
    (tmp_path / "secret").write_text("7")
    assert run(sandbox, files(tmp_path)["read"]).number == "7.0"
    assert run(sandbox, files(tmp_path)["list"]).status == "ok"
    run(sandbox, files(tmp_path)["write"])
    assert (tmp_path / "made").read_text() == ""  # the limit of file size is always there


SOCKETS = {
    "tcp": "import socket\n" + body("socket.socket().connect(('127.0.0.1', PORT))", "return 1"),
    "udp": "import socket\n"
    + body("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "return s.sendto(b'x', ('8.8.8.8', 53))"),
}


@pytest.mark.parametrize("layers", [LAYERS, ("seccomp",), ("network namespace",)], ids="+".join)
@pytest.mark.parametrize("name", SOCKETS)
def test_no_network(made: list[Sandbox], name: str, layers: tuple[str, ...]) -> None:
    made.append(sandbox := Sandbox(1, layers=layers, modules=(*MODULES, "socket")))
    if len(layers) == 1 and layers[0] not in sandbox.capabilities().active:
        pytest.skip(f"not on this machine: {layers[0]}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = SOCKETS[name].replace("PORT", str(server.getsockname()[1]))
        assert run(sandbox, program).status == ("killed" if "seccomp" in layers else "error")
        made.append(open_sandbox := Sandbox(1, layers=(), modules=(*MODULES, "socket")))
        assert name != "tcp" or run(open_sandbox, program).status == "ok"  # the control


def test_output_goes_nowhere(full: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(full, body("print('=7.0' * 10 ** 4)", "return 3")).number == "3.0"
    assert run(full, body("print('x' * 10 ** 5)", "return 3")).status == "output"
    assert run(full, body("import os", "os.write(2, b'x' * 70000)", "return 3")).status == "output"
    assert run(full, body("while True: print('x' * 10 ** 6)")).status == "output"
    assert capfd.readouterr() == ("", "")


ENDINGS = {
    "exit at once": body("import os", "os._exit(0)"),
    "sys.exit": body("import sys", "sys.exit(0)"),
    "crash": "import ctypes\n" + body("return ctypes.string_at(0)"),
    "abort": body("import os", "os.abort()"),
    "kill itself": body("import os, signal", "os.kill(os.getpid(), signal.SIGKILL)", "while True: pass"),
    "endless recursion": "import sys\n" + body("sys.setrecursionlimit(10 ** 9)", "return solution()"),
    "kill everything": body("import os", "os.kill(-1, 9)", "return 1"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_ending_without_a_result(full: Sandbox, name: str) -> None:
    outcome = run(full, ENDINGS[name])
    assert outcome.status != "ok" and outcome.number is None


PIPE = "for n in range(3, 64):\n        try: os.write(n, %s)\n        except OSError: pass"
FORGERIES = {
    "and computes on": body("import os", PIPE % "b'=18.0'", "while True: pass"),
    "and returns": body("import os", PIPE % "b'=18.0'", "return 7"),
    "and crashes": body("import os", PIPE % "b'=18.0'", "os.abort()"),
    "a message of the server": body("import os", PIPE % """b'\\x0a\\0\\0\\0{"a": "b"}'""", "return 7"),
    "without end": body("import os", "while True:", "    for n in range(3, 64):", "        try: os.write(n, b'=18.0' * 1000)", "        except OSError: pass"),
    "no number": body("import os", PIPE % "b'=nan'", "os._exit(0)"),
    "a number of a million digits": body("import os", PIPE % "b'=' + b'1' * 10 ** 6", "os._exit(0)"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_what_is_written_into_the_pipe_of_the_result(full: Sandbox, name: str) -> None:
    outcome = run(full, FORGERIES[name])
    assert outcome.number is None and outcome.status in ("time", "killed")


def test_a_program_may_claim_a_number_as_it_may_return_one(full: Sandbox) -> None:
    """What forging comes to at best; the server never sees the right answer, so there is none to copy."""
    assert run(full, body("import os", PIPE % "b'=18.0'", "os._exit(0)")).number == "18.0"


def test_descriptors_of_the_server_are_out_of_reach(full: Sandbox) -> None:
    program = body(
        "import os",
        "n = 0",
        "for i in range(1024):",
        "    try: os.write(i, b'')",
        "    except OSError: continue",
        "    n += 1",
        "return n",
    )
    assert run(full, program).number == "4.0"  # standard input, output, error (all nowhere) and the pipe of the result


def test_closing_descriptors_hurts_only_the_program(full: Sandbox) -> None:
    assert run(full, body("import os", "os.closerange(0, 1024)", "return 1")).status == "killed"


def test_one_program_leaves_nothing_to_the_next(full: Sandbox) -> None:
    assert run(
        full, "import math\n" + body("math.pi = 3", "import builtins", "builtins.float = None", "return 1")
    ).status
    assert run(full, "import math\n" + body("return math.pi")).number == "3.141592653589793"


def test_programs_run_as_nobody_who_owns_anything(full: Sandbox) -> None:
    if "other user" not in full.capabilities().active:
        pytest.skip("needs root")
    assert (
        run(full, body("import os", "return os.geteuid() * 10 ** 6 + os.getegid()")).number
        == f"{USER * 10**6 + USER}.0"
    )
    assert run(full, body("import os", "os.setuid(0)", "return 1")).number is None


def test_limits_cannot_be_raised(full: Sandbox) -> None:
    program = "import resource\n" + body("resource.setrlimit(resource.RLIMIT_CPU, (60, 60))", "return 1")
    assert run(full, program).status == "error"


@pytest.mark.parametrize("layers", [LAYERS, ("landlock",), ("pid namespace",), ("other user",)], ids="+".join)
def test_the_server_cannot_be_traced(made: list[Sandbox], layers: tuple[str, ...]) -> None:
    """PTRACE_ATTACH to the parent and to the first processes; a process-id namespace holds no other than its own."""
    made.append(sandbox := Sandbox(1, layers=layers, modules=(*MODULES, "ctypes")))
    attach = (
        "ptrace = ctypes.CDLL(None).ptrace",
        "return sum(ptrace(16, p, 0, 0) == 0 for p in [os.getppid(), *range(2, 500)])",
    )
    outcome = run(sandbox, "import ctypes, os\n" + body(*attach))
    assert outcome.status == "killed" or outcome.number == "0.0"


def test_a_batch_of_hostile_and_honest_programs(made: list[Sandbox]) -> None:
    """From eight threads at once on two servers: each honest program gets its own number, the hostile ones none."""
    made.append(sandbox := Sandbox(2, modules=MODULES))
    hostile = [*LOOPS.values(), *MEMORY.values(), DAEMON, BOMB, *ENDINGS.values(), *FORGERIES.values()]
    programs = [program for n, bad in enumerate(hostile) for program in (bad, body(f"return {n} * 3"))]
    limits = Limits(cpu_seconds=0.3, wall_seconds=5.0, memory_mib=128)
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda program: sandbox.run(program, limits), programs))
    assert [outcome.number for outcome in outcomes[1::2]] == [f"{3 * n}.0" for n in range(len(hostile))]
    assert {outcome.number for outcome in outcomes[::2]} == {None}
    assert len(sandbox.server_pids()) == 2 and len(processes_of(sandbox)) <= 4
