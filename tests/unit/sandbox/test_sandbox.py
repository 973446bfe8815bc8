"""What ordinary programs get, how servers come and go, and what is said about a machine that cannot confine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openrlhf_ext import sandbox
from openrlhf_ext.sandbox import LAYERS, Capabilities, Limits, Outcome, Sandbox, SandboxError

pytestmark = pytest.mark.timeout(300)

HONEST = "def solution():\n    return 6 * 3\n"
SMALL = ("math", "random", "time")
LONG = Limits(cpu_seconds=20, wall_seconds=60)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    made = Sandbox(2)
    yield made
    made.close()


def answer(expression: str) -> str:
    return f"def solution():\n    return {expression}\n"


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ("18", "18.0"),
        ("0.1 + 0.2", "0.30000000000000004"),
        ("-7 // 2", "-4.0"),
        ("1e300 * 10", "1e+301"),
        ("1e-12", "1e-12"),
        ("2 ** 70", "1.1805916207174113e+21"),
        ("'1.5'", "1.5"),
        ("math.sqrt(16)", "4.0"),
        ("sympy.Rational(4, 3)", "1.3333333333333333"),
    ],
)
def test_the_number_of_a_program(box: Sandbox, expression: str, number: str) -> None:
    assert box.run(answer(expression)) == Outcome("ok", number)


@pytest.mark.parametrize(
    ("expression", "detail"),
    [
        ("None", "TypeError"),
        ("True", "truth value"),
        ("[18]", "TypeError"),
        ("'eighteen'", "ValueError"),
        ("float('nan')", "returned nan"),
        ("1e308 * 10", "returned inf"),
        ("10 ** 400", "OverflowError"),
        ("1j", "TypeError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("sympy.Symbol('x')", "TypeError"),
        ("__import__('numpy')", "No module named 'numpy'"),
    ],
)
def test_no_number(box: Sandbox, expression: str, detail: str) -> None:
    outcome = box.run(answer(expression))
    assert outcome.status == "error" and outcome.number is None and detail in outcome.detail


@pytest.mark.parametrize(
    "program",
    ["", "x = 18", "solution = 18", "def solution(:", "def solution(a): return a", "\0", "\ud800", "raise SystemExit"],
)
def test_no_program(box: Sandbox, program: str) -> None:
    assert box.run(program).status == "error"


SYMPY = (
    "sympy.solve(x**2 - 4, x)[1]",
    "sympy.solve([x + y - 3, x - y - 1], [x, y])[x]",
    "list(sympy.solveset(x - 4, x))[0]",
    "list(sympy.linsolve([x + y - 3, x - y - 1], [x, y]))[0][0]",
    "list(sympy.nonlinsolve([x * y - 1, x - 2], [x, y]))[0][1]",
    "sympy.solve(x**3 - 8, x)[0]",
    "sympy.solve(sympy.exp(x) - 1, x)[0]",
    "sympy.solve(sympy.sqrt(x) - 3, x)[0]",
    "sympy.nsolve(x**2 - 2, x, 1)",
    "sympy.solve(2 * x > 4, x).as_set().inf",
    "sympy.simplify((x**2 - 1) / (x - 1)).subs(x, 3)",
    "sympy.integrate(x**2, (x, 0, 3))",
    "sympy.diff(x**3, x).subs(x, 2)",
    "sympy.limit(sympy.sin(x) / x, x, 0)",
    "sympy.summation(x, (x, 1, 10))",
    "sympy.Matrix([[1, 2], [3, 4]]).inv()[0, 0]",
    "len(sympy.factorint(60))",
    "sympy.lambdify(x, x + 1)(2)",
    "sympy.sympify('x + 1').subs(x, 2)",
    "sympy.Eq(2 * x, 8).lhs.subs(x, 4)",
    "len(sympy.divisors(12))",
    "len(list(sympy.solvers.diophantine(x + y - 5)))",
    "len(sympy.latex(x**2))",
    "sympy.stats.E(sympy.stats.Die('D', 6))",
    "sympy.Poly(x**2 - 1).all_roots()[1]",
)


@pytest.mark.parametrize("expression", SYMPY)
def test_sympy_needs_no_module_that_was_not_loaded(box: Sandbox, expression: str) -> None:
    program = "import sympy.stats\nx, y = sympy.symbols('x y')\n" + answer(expression)
    outcome = box.run(program, LONG)
    assert outcome.status == "ok", outcome.detail


def test_imports_of_the_standard_library(box: Sandbox) -> None:
    program = (
        "from collections import Counter\nfrom datetime import date, timedelta\nfrom fractions import Fraction\nimport statistics\n"
        "from itertools import permutations\nfrom decimal import Decimal\nimport calendar\n"
    )
    program += answer(
        "statistics.mean([1, 2]) + Fraction(1, 2) + len(list(permutations('abc'))) + (date(2024, 3, 1) - date(2024, 2, 1)).days"
    )
    assert box.run(program) == Outcome("ok", "37.0")


def test_chance_and_the_order_of_sets_are_the_same_in_every_server() -> None:
    program = "import random\n" + answer("random.random() + list({'a', 'b', 'c', 'd', 'e'}).index('a') + id(0) * 0")
    numbers = set()
    for _ in range(2):
        made = Sandbox(1, modules=SMALL)
        numbers |= {made.run(program) for _ in range(3)}
        made.close()
    assert len(numbers) == 1 and next(iter(numbers)).status == "ok"


def test_many_threads_share_two_servers(box: Sandbox) -> None:
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda n: box.run(answer(f"{n} * 2")), range(60)))
    assert [float(outcome.number or -1) for outcome in outcomes] == [2.0 * n for n in range(60)]
    assert len(box.server_pids()) == 2


def test_limits_are_those_of_the_call(box: Sandbox) -> None:
    endless = "def solution():\n    while True: pass\n"
    assert box.run(endless, Limits(cpu_seconds=0.3)).detail == "more than 0.3 s of CPU time"
    big = answer("len(bytes(200 * 2 ** 20))")
    assert box.run(big, Limits(memory_mib=64)).status == "memory"
    assert box.run(big, Limits(memory_mib=400)).status == "ok"


@pytest.mark.parametrize("wrong", [{"cpu_seconds": 0}, {"wall_seconds": -1}, {"memory_mib": 1}])
def test_limits_must_leave_something(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least 16 MiB"):
        Limits(**wrong)  # type: ignore[arg-type]


def test_a_server_that_was_killed_is_replaced() -> None:
    made = Sandbox(1, modules=SMALL)
    assert made.run(HONEST).status == "ok"
    [first] = made.server_pids()
    command = Path(f"/proc/{first}/cmdline").read_bytes()
    os.kill(first, signal.SIGKILL)
    started = time.monotonic()
    while command in commands() and time.monotonic() - started < 50:
        time.sleep(0.02)
    assert command not in commands()  # the process that it waited for is gone too
    assert made.run(HONEST).number == "18.0"
    assert made.server_pids() != [first]
    made.close()


def commands() -> set[bytes]:
    """The command lines of all live processes."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.add(path.read_bytes())
    return found


def test_a_program_that_takes_its_server_with_it_twice_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Sandbox(1, modules=SMALL)
    seen = []

    class Dying(sandbox.client._Server):
        def run(self, program: str, limits: Limits) -> dict[str, object]:
            seen.append(self.pid)
            os.kill(self.pid, signal.SIGKILL)
            return super().run(program, limits)

    with monkeypatch.context() as patched:
        patched.setattr(sandbox.client, "_Server", Dying)
        assert made.run(HONEST) == Outcome("killed", detail="its server went down with it, twice")
    assert len(set(seen)) == 2
    assert made.run(HONEST).status == "ok"
    made.close()


def test_closing_ends_the_servers() -> None:
    made = Sandbox(2, modules=SMALL)
    made.run(HONEST)
    [pid] = made.server_pids()
    made.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(SandboxError, match="closed"):
        made.run(HONEST)


def test_a_server_that_cannot_start_is_an_error_not_a_verdict() -> None:
    made = Sandbox(1, modules=("no_such_module",))
    with pytest.raises(SandboxError, match="did not start"):
        made.run(HONEST)
    with pytest.raises(SandboxError, match="did not start"):  # and the place of the failed server is free again
        made.run(HONEST)
    made.close()


@pytest.mark.parametrize("end", ["", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit(3)"])
def test_servers_end_with_the_process_that_uses_them(end: str) -> None:
    program = (
        "from openrlhf_ext import sandbox\n"
        "from openrlhf_ext.sandbox import client\n"
        "import threading\n"
        f"client._shared = sandbox.Sandbox(1, modules={SMALL!r})\n"
        f"print(sandbox.run({HONEST!r}).number, client._shared.server_pids()[0], flush=True)\n"
        "threading.Thread(target=sandbox.run, args=('def solution():\\n    while True: pass\\n', sandbox.Limits(60, 60)), daemon=True).start()\n"
        f"import time; time.sleep(0.3)\n{end}\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    number, pid = done.stdout.split()
    assert number == "18.0"
    while Path(f"/proc/{pid}").exists() and time.monotonic() - started < 50:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert time.monotonic() - started < 50  # it did not wait for the endless program's minute


def test_a_forked_process_gets_servers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.client, "Sandbox", lambda: Sandbox(1, modules=SMALL))
    assert sandbox.run(HONEST).status == "ok"
    ours = sandbox.client._share().server_pids()
    child = os.fork()
    if child == 0:
        ok = sandbox.run(HONEST).status == "ok" and sandbox.client._share().server_pids() != ours
        sandbox.close()
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sandbox.run(HONEST).status == "ok" and sandbox.client._share().server_pids() == ours
    sandbox.close()


def test_it_works_for_an_ordinary_user() -> None:
    """The confinement of somebody who is not root: a user namespace of its own, where the kernel allows that."""
    if os.geteuid() != 0:
        pytest.skip("the other tests are this test where we are not root")
    # A virtual environment may lie where only root can read, so the package is loaded first and the server forked from here.
    program = (
        "import os, socket, sys, json, threading\n"
        "from openrlhf_ext.sandbox import kernel, server, wire, Limits\n"
        "import math, random, decimal\n"
        "ours, theirs = socket.socketpair()\n"
        "if os.fork() == 0:\n"
        "    ours.close(); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # as after an exec\n"
        "    server.main(theirs.detach(), modules=('math',)); os._exit(0)\n"
        "theirs.close()\n"
        "print(json.dumps(wire.receive(ours)))\n"
        "for text in json.loads(sys.argv[1]):\n"
        "    wire.send(ours, {'program': text, 'limits': Limits(0.5, 5.0).to_dict()})\n"
        "    print(json.dumps(wire.receive(ours)))\n"
    )
    texts = [
        HONEST,
        "def solution():\n    while True: pass\n",
        "def solution():\n    import os\n    return os.getuid()\n",
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(texts)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    greeting, *outcomes = map(json.loads, done.stdout.splitlines())
    assert "other user" in greeting["missing"] and {"seccomp", "landlock"} & set(greeting["active"])
    assert [outcome["status"] for outcome in outcomes] == ["ok", "time", "ok"]
    assert outcomes[2]["number"] == "65534.0"


@pytest.mark.parametrize("kept", [0xA80425FB, 0])
def test_it_works_for_a_root_that_may_not_make_namespaces(kept: int) -> None:
    """The capabilities of a container's root by default (a bit each), and none at all."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    program = (
        "import json\n"
        "from openrlhf_ext.sandbox import Limits, Sandbox, kernel\n"
        "for capability in range(41):\n"
        f"    if not {kept} >> capability & 1:\n"
        "        kernel.prctl(24, capability)  # PR_CAPBSET_DROP: gone for every program started from here\n"
        f"made = Sandbox(1, modules={SMALL!r})\n"
        "found = made.capabilities()\n"
        f"outcomes = [made.run(text, Limits(0.5, 5.0)).status for text in ({HONEST!r}, 'def solution():\\n    while True: pass')]\n"
        "print(json.dumps([found.active, sorted(found.missing), found.confined, outcomes]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    active, missing, confined, outcomes = json.loads(done.stdout)
    assert {"ipc namespace", "network namespace", "pid namespace"} <= set(missing)
    assert ("other user" in active) == ("empty root" in active) == (kept != 0)
    assert confined == ("seccomp" in active) and outcomes == ["ok", "time"]


def test_every_layer_is_either_active_or_explained(box: Sandbox) -> None:
    found = box.capabilities()
    assert set(found.active) | set(found.missing) == set(LAYERS) and not set(found.active) & set(found.missing)


def test_a_machine_that_cannot_confine_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Capabilities((), dict.fromkeys(LAYERS, "Function not implemented"))
    [problem] = bare.problems()
    assert "not confined by the kernel" in problem and "seccomp: Function not implemented" in problem
    assert not Capabilities(("seccomp",), {}).problems()
    assert not Capabilities(("landlock", "pid namespace", "network namespace"), {}).problems()
    assert Capabilities(("landlock", "pid namespace"), {}).problems()  # the network stays open
    assert Capabilities(("pid namespace", "network namespace", "other user"), {}).problems()  # files stay readable
    monkeypatch.setattr(sandbox.client, "Sandbox", lambda: Sandbox(1, layers=(), modules=SMALL))
    with pytest.warns(RuntimeWarning, match="not confined by the kernel"):
        sandbox.run(HONEST)
    sandbox.close()
