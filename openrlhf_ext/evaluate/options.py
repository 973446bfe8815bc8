"""How answers are fetched: from engines that are started here, or from a server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineOptions:
    """How engines are started. ``precision`` is float32, bf16 or fp16; times in seconds."""

    device: str
    precision: str
    count: int = 1
    tensor_parallel_size: int = 1
    threads: int = 1
    kv_cache_gib: int = 1
    gpu_memory_utilization: float = 0.9
    ray_address: str = "auto"
    wave: int = 256
    seed: int = 42
    start_timeout: float = 900.0
    wave_timeout: float = 3600.0


@dataclass(frozen=True)
class ServerOptions:
    """How an endpoint is asked; times in seconds."""

    concurrency: int = 16
    timeout: float = 120.0
    retries: int = 5
