"""Program answers graded where a run grades them: in a Ray worker, by the executor that OpenRLHF's engines load. Only the text is played.

Hostile programs earn nothing, leave no process and do not disturb their neighbours; a worker that is killed takes its sandbox along,
whatever runs there. Cost: one Ray worker, about 15 s.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from openrlhf_ext.rollout.executor import TASK_VARIABLE

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

OPTIONS = {"name": "gsm8k-program", "partial_reward": 0.2, "cpu_seconds": 0.5, "wall_seconds": 4.0, "memory_mib": 128}
PREFIX = 'def solution():\n    """How many?"""\n'
LABEL = json.dumps({"answer": "18", "prefix": PREFIX})


def body(*lines: str) -> str:
    return "".join(f"    {line}\n" for line in lines)


HONEST = body("return 6 * 3")
WRONG = body("return 17")
HOSTILE = {
    "endless": body("while True: pass"),
    "daemon": body("import os", "if os.fork() == 0:", "    os.setsid()", "    while True: pass", "return 18"),
    "memory": body("return len([0] * 10 ** 9)"),
    "flood": body("while True: print('#' * 4096)"),
    "kills its worker": body("import os", "os.kill(os.getppid(), 9)", "return 18"),
}


class Letters:
    """One token per character."""

    def __call__(self, *, text: str, add_special_tokens: bool, return_tensors: str) -> dict:
        import torch

        return {"input_ids": torch.tensor([[ord(letter) for letter in text]])}

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        return "".join(map(chr, ids))


class Played:
    """An engine that always says the same."""

    def __init__(self, text: str) -> None:
        self.output = SimpleNamespace(token_ids=[ord(letter) for letter in text], finish_reason="stop", logprobs=None)

    async def generate(self, prompt: list[int], params: object, multi_modal_data: object = None) -> object:
        return SimpleNamespace(outputs=[self.output])


class Grader:
    """Holds the executor as an engine does; an async actor, so answers are graded off its main thread."""

    def __init__(self) -> None:
        from openrlhf_ext.rollout.executor import AgentExecutor

        self.executor = AgentExecutor()

    async def pid(self) -> int:
        import os

        return os.getpid()

    async def allow(self, **options: float) -> None:
        from openrlhf_ext.tasks import make_task

        self.executor.task = make_task(OPTIONS | options)

    async def grade(self, *programs: str) -> list[tuple[float, object]]:
        """Rewards and verifier errors of programs that run at once."""
        params = SimpleNamespace(max_tokens=1024, logprobs=None, stop=None)
        answers = await asyncio.gather(
            *(
                self.executor.execute(PREFIX, LABEL, params, 4096, Letters(), Played(program), None)
                for program in programs
            )
        )
        return [(answer["reward"], answer["verifier_error"]) for answer in answers]


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    environment = {TASK_VARIABLE: json.dumps(OPTIONS), "OMP_NUM_THREADS": "1"}
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80 * 2**20,
        runtime_env={"env_vars": environment, "worker_process_setup_hook": "openrlhf_ext.upstream.install"},
    )
    yield
    ray.shutdown()


def sandbox_of(worker: int) -> set[int]:
    """Live processes of a worker's sandbox: servers name it on their command line, and a fork keeps that."""
    mark, found = f" of process {worker}".encode(), set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line, state = (
                    (entry / "cmdline").read_bytes(),
                    (entry / "stat").read_text().rpartition(")")[2].split()[0],
                )
            except OSError:
                continue
            if state != "Z" and line.rstrip(b"\0").endswith(mark):
                found.add(int(entry.name))
    return found


def wait_until(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(condition())


def test_programs_in_a_worker(session: None) -> None:
    grader = ray.remote(Grader).options(num_cpus=1).remote()

    def graded(*programs: str) -> list[tuple[float, object]]:
        return ray.get(grader.grade.remote(*programs), timeout=240)

    worker = ray.get(grader.pid.remote(), timeout=240)
    assert graded(HONEST) == [(1.0, None)]
    assert graded(WRONG) == [(0.2, None)], "a number that is wrong is paid for, so a zero below says that none came out"
    at_rest = sandbox_of(worker)
    assert at_rest
    for name, program in HOSTILE.items():
        assert graded(program) == [(0.0, None)], name
        assert wait_until(lambda: sandbox_of(worker) == at_rest, 10), f"{name} left {sandbox_of(worker) - at_rest}"

    mixed = [program for hostile in HOSTILE.values() for program in (HONEST, hostile)]
    assert graded(*mixed) == [(reward, None) for _ in HOSTILE for reward in (1.0, 0.0)]
    assert ray.get(grader.pid.remote(), timeout=60) == worker, "the worker is the one that began"

    ray.get(grader.allow.remote(cpu_seconds=300, wall_seconds=300), timeout=60)
    servers = sandbox_of(worker)
    running = grader.grade.remote(HOSTILE["endless"])
    assert wait_until(lambda: sandbox_of(worker) > servers, 60), "the program did not start"
    ray.kill(grader)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(running, timeout=60)
    assert wait_until(lambda: not sandbox_of(worker), 20), f"a killed worker leaves {sandbox_of(worker)}"
