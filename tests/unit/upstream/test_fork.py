"""A forked engine core ends with the process that forked it."""

import multiprocessing
import os
import signal
import time

import pytest

from openrlhf_ext.upstream.fork import die_with_parent


def _grandchild(bound: bool, pipe) -> None:
    if bound:
        die_with_parent()
    pipe.send(os.getpid())
    time.sleep(60)


def _child(bound: bool, pipe) -> None:
    multiprocessing.get_context("fork").Process(target=_grandchild, args=(bound, pipe)).start()
    time.sleep(60)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("bound", [True, False])
def test_a_killed_parent_takes_the_process_with_it(bound):
    fork = multiprocessing.get_context("fork")
    mine, theirs = fork.Pipe()
    child = fork.Process(target=_child, args=(bound, theirs))
    child.start()
    pid = mine.recv()
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    deadline = time.monotonic() + (20 if bound else 1)
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive(pid) != bound
    if not bound:
        os.kill(pid, signal.SIGKILL)
