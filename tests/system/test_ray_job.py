"""A run as a cluster runs it: `ray start --head`, then `ray job submit` of a GRPO run of two steps, which ends as SUCCEEDED.

The head node is ours alone, on free ports, and ends with the process that started it: nothing else on the machine is touched.
Cost: about 60 s on 2 idle cores.
"""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from openrlhf_ext.record.run_dir import read_events
from tests.system.toy import environment, rows_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
PORTS = (
    "port",
    "dashboard-port",
    "ray-client-server-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    numbers = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return numbers


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a head node with 2 CPUs, for `ray job`."""
    log_file = tmp_path_factory.mktemp("head") / "head.log"
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    options = [f"--{name}={port}" for name, port in ports.items()]
    with open(log_file, "w") as log:
        head = subprocess.Popen(
            [
                *RAY,
                "start",
                "--head",
                "--block",
                "--num-cpus=2",
                "--include-dashboard=true",
                "--disable-usage-stats",
                *options,
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(  # on a busy machine the dashboard needs longer than its minute
                RAY_DASHBOARD_STARTUP_TIMEOUT_S="300", RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT="300"
            ),
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        wait_until_it_answers(address, head, log_file)
        yield address
    finally:
        head.send_signal(signal.SIGTERM)  # with --block it takes its processes along
        try:
            head.wait(60)
        except subprocess.TimeoutExpired:
            head.kill()


def wait_until_it_answers(address: str, head: subprocess.Popen, log: Path, timeout: float = 300) -> None:
    end = time.monotonic() + timeout
    while True:
        listed = subprocess.run(
            [*RAY, "job", "list", "--address", address], capture_output=True, text=True, env=environment()
        )
        if listed.returncode == 0:
            return
        if head.poll() is not None or time.monotonic() > end:
            pytest.fail(f"no head node: {log.read_text()[-3000:]}\n{listed.stderr[-1000:]}")
        time.sleep(1)


def submitted(options: Sequence[str], words: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """`ray job submit` to its end. A head node that has just started may close the connection of the first request: asked again."""
    command = [*RAY, "job", "submit", *options, "--", *words]
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=timeout)
        if "Remote end closed connection" not in done.stderr:
            return done
        time.sleep(5)
    return done


def test_a_submitted_run_ends_as_succeeded(toy, dashboard: str, tmp_path: Path) -> None:
    from ray.job_submission import JobStatus, JobSubmissionClient

    words = [sys.executable, "-m", "openrlhf_ext", *toy.grpo(tmp_path / "run", grpo__max_steps=2)]
    done = submitted(["--address", dashboard, "--submission-id", "two-steps"], words, timeout=1200)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert JobSubmissionClient(dashboard).get_job_status("two-steps") == JobStatus.SUCCEEDED
    assert [row["step"] for row in rows_of(tmp_path / "run")] == [1, 2]
    assert read_events(tmp_path / "run")[-1]["kind"] == "finish"


def test_a_submitted_request_that_is_wrong_ends_as_failed_with_its_problems(
    toy, dashboard: str, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "openrlhf_ext", *toy.grpo(tmp_path / "run", rollout__batch_sise=4)]
    done = submitted(["--address", dashboard], words, timeout=600)
    assert done.returncode != 0
    assert "rollout.batch_size" in done.stdout, shlex.join(words)
    assert not (tmp_path / "run").exists()
