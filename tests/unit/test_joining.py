"""A cluster that is only known after joining is asked before anything is written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from openrlhf_ext import train
from openrlhf_ext.cluster import Cluster, Node

HERE = Cluster.of("1x0")


def needs_gpus(number: int) -> SimpleNamespace:
    """A plan that asks for this many GPUs."""

    def problems(cluster: Cluster) -> list[tuple[str, str, str]]:
        what = f"{number} GPUs are asked for, the cluster has {cluster.gpus:g}"
        return [("plan", what, "fewer")] if number > cluster.gpus else []

    return SimpleNamespace(problems=problems)


def settings(address: str, device: str = "cuda", *, explicit: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        run=SimpleNamespace(ray_address=address), device=device, explicit=lambda key: explicit and key == "run.device"
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were looked at; each is a cluster of two nodes with eight GPUs."""
    addresses: list[str] = []
    monkeypatch.setattr(Cluster, "at", lambda address: addresses.append(address) or Cluster.of("2x8"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return addresses


def test_the_plan_is_checked_against_the_cluster_that_is_joined(asked: list[str]) -> None:
    assert train.problems_after_joining(settings("head:6379"), needs_gpus(16), HERE) == []
    [problem] = train.problems_after_joining(settings("head:6379"), needs_gpus(17), HERE)
    assert problem.what == "17 GPUs are asked for, the cluster has 16"
    assert asked == ["head:6379", "head:6379"]


def test_auto_joins_what_the_environment_names_and_local_never_does(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "other:6379")
    assert train.problems_after_joining(settings("auto"), needs_gpus(16), HERE) == []
    [problem] = train.problems_after_joining(settings("local"), needs_gpus(1), HERE)
    assert problem.what == "1 GPUs are asked for, the cluster has 0"
    assert asked == ["other:6379"]


def test_a_cluster_that_does_not_answer_is_a_problem_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(address: str) -> Cluster:
        raise ConnectionError("timed out")

    monkeypatch.setattr(Cluster, "at", nobody)
    [problem] = train.problems_after_joining(settings("head:6379"), needs_gpus(0), HERE)
    assert "head:6379" in problem.what and "ray start --head" in problem.fix


@pytest.mark.parametrize("error", [ValueError("Malformed host"), RuntimeError("Version mismatch: Ray 2.9.0")])
def test_a_cluster_that_refuses_is_a_problem_too(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuses(address: str) -> Cluster:
        raise error

    monkeypatch.setattr(Cluster, "at", refuses)
    [problem] = train.problems_after_joining(settings("head:6379"), needs_gpus(0), HERE)
    assert problem.what == f"head:6379 cannot be joined: {error}"
    assert "HOST:PORT" in problem.fix


def test_a_run_does_not_stay_on_the_cpu_of_a_cluster_with_gpus_because_this_machine_has_none(asked: list[str]) -> None:
    [problem] = train.problems_after_joining(settings("head:6379", "cpu"), needs_gpus(0), HERE)
    assert (problem.where, "the cluster has 16" in problem.what) == ("run.device", True)
    assert train.problems_after_joining(settings("head:6379", "cpu", explicit=True), needs_gpus(0), HERE) == []
    assert train.problems_after_joining(settings("local", "cpu"), needs_gpus(0), HERE) == []


def test_the_cluster_is_asked_and_left_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """``connect`` joins it later with the runtime environment of the run."""
    calls: list[object] = []
    up = [False]
    node = {"Alive": True, "NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 8.0, "GPU": 4.0, "memory": 2.0**33}}
    ray = SimpleNamespace(
        is_initialized=lambda: up[0],
        init=lambda address, **_: calls.append(address),
        nodes=lambda: [node, node | {"Alive": False}],
        shutdown=lambda: calls.append("left"),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    wanted = Cluster((Node("10.0.0.1", cpus=8, gpus=4, memory_gib=8.0),))
    assert Cluster.at("head:6379") == wanted
    assert calls == ["head:6379", "left"]
    up[0] = True  # an earlier job of this process has joined it, and the session is not ours to end
    assert Cluster.at("head:6379") == wanted
    assert calls == ["head:6379", "left"]


def test_nothing_is_launched_when_the_joined_cluster_is_too_small(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launched: Callable[..., int] = pytest.fail
    monkeypatch.setattr("openrlhf_ext.launch.launch", launched)
    monkeypatch.setattr(Cluster, "at", lambda address: HERE)
    monkeypatch.setattr(train, "examine", lambda *_, **__: (settings("head:6379"), needs_gpus(4), []))
    arguments = SimpleNamespace(method="grpo", config=None, settings=[], cluster=None, dry_run=False, resume=False)
    assert train.run(arguments) == 2
    assert "4 GPUs are asked for, the cluster has 0" in capsys.readouterr().err
