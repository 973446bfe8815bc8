"""The Ray session of a run: our own on this machine, or the cluster that it joins; workers with the seam installed.

Imports Ray only, so that a session starts while the heavy libraries are still being imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import ray

SETUP_HOOK = "openrlhf_ext.upstream.install"
OBJECT_STORE_BYTES = 512 * 2**20

CPU_ENVIRONMENT = {
    # One process less per engine: it is up in 13 s instead of 36 s.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Compiling the entropy or the sampler costs more than a small run.
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # Phases alternate between processes: threads that spin while they wait would steal the next phase's cores.
    "OMP_WAIT_POLICY": "PASSIVE",
    "DS_ACCELERATOR": "cpu",
}


def worker_environment(device: str, threads: int, kv_cache_gib: int) -> dict[str, str]:
    """Environment of every worker; variables that the user has set win."""
    variables = {
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(threads),
        "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "NCCL_DEBUG": "WARN",
    }
    if device == "cpu":
        variables |= CPU_ENVIRONMENT | {"VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib)}
    return {name: os.environ.get(name, value) for name, value in variables.items()}


def joined_address(address: str) -> str | None:
    """The existing cluster that :func:`connect` joins, or None where it starts a session of our own."""
    return os.environ.get("RAY_ADDRESS") if address == "auto" else None if address == "local" else address


def connect(address: str, environment: Mapping[str, str]) -> None:
    """Join or start Ray; nothing where a session of this process is already up (jobs that follow each other share it).

    ``address``: ``auto`` = the cluster that ``RAY_ADDRESS`` names, else our own; ``local`` = our own; anything else is an address.
    """
    os.environ.update(environment)
    if ray.is_initialized():
        return
    runtime = {"env_vars": dict(environment), "worker_process_setup_hook": SETUP_HOOK}
    target = joined_address(address)
    if target:
        ray.init(address=target, runtime_env=runtime, log_to_driver=False)
        return
    ray.init(
        address="local",
        runtime_env=runtime,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=OBJECT_STORE_BYTES,
        # Ray would start one worker per core ahead, without our runtime environment: nobody could use them. (Nor does an
        # actor ever take over a worker that ran a task, Ray 2.55: importing in idle workers only costs time.)
        _system_config={"prestart_worker_first_driver": False},
    )


def log_directory() -> str:
    """Where Ray keeps the workers' output on this machine."""
    node = ray._private.worker.global_worker.node  # the public API has no name for it (Ray 2.55)
    return node.get_logs_dir_path() if node is not None else "the node's Ray session folder"
