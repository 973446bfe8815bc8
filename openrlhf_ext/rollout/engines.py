"""Rollout engines: vLLM with the run's task inside, comparable log-probs, and models that can be exchanged without a restart.

Importing this module imports vLLM and OpenRLHF: late.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ray.actor import ActorHandle
from ray.util.placement_group import PlacementGroup

from openrlhf_ext.rollout import executor
from openrlhf_ext.rollout.deadline import wait_for
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.environment import is_environment
from openrlhf_ext.upstream.engine import EngineActor, create_engines

WORKER = "openrlhf_ext.upstream.rollout_worker.RolloutWorker"
USAGE = ("requests", "prompt_tokens", "cached_tokens", "generated_tokens")
"""What an engine counts; cached = prompt tokens that the prefix cache held."""
CPU_BLOCK = 32
"""Tokens in a block of the key/value cache on a CPU: the least that vLLM's kernels take there. Only whole blocks are shared between requests, and
vLLM's own 128 are more than a chain with its question has (measured in docs/self_explore.md)."""


class RolloutEngine(EngineActor):
    """One engine. ``task_options`` (JSON) reaches the executor, which upstream constructs without arguments, through the environment."""

    async def __init__(self, *args, task_options: str, threads: int = 0, **kwargs) -> None:  # type: ignore[misc]
        os.environ[executor.TASK_VARIABLE] = task_options
        self.counts = dict.fromkeys(USAGE, 0)
        if threads:
            import torch

            torch.set_num_threads(threads)
        await super().__init__(*args, **kwargs)
        await self.llm.collective_rpc("report_full_softmax")

    async def load_checkpoint(self, directory: str) -> list[str]:
        """Exchange the weights for those in ``directory``; returns the engine's parameters that were not filled."""
        await self.llm.reset_prefix_cache()
        unfilled = await self.llm.collective_rpc("load_checkpoint", args=(directory,))
        return sorted({name for worker in unfilled for name in worker})

    async def generate_responses(self, prompt: str, label: str, sampling_params, *args, **kwargs) -> list[dict]:
        """Upstream's. It looks at whole answers only, so vLLM need not build an output object for every token of each."""
        from vllm.sampling_params import RequestOutputKind

        sampling_params.output_kind = RequestOutputKind.FINAL_ONLY
        return await super().generate_responses(prompt, label, sampling_params, *args, **kwargs)

    async def generate(self, prompt_token_ids: list[int], sampling_params, multi_modal_data=None):
        """Upstream's, with its tokens counted."""
        output = await super().generate(prompt_token_ids, sampling_params, multi_modal_data)
        # vLLM's own totals sit in its loggers, mixed with those of other processes; every output knows its part of them.
        seen = (1, len(prompt_token_ids), output.num_cached_tokens or 0, len(output.outputs[0].token_ids))
        for name, number in zip(USAGE, seen, strict=True):
            self.counts[name] += number
        return output

    async def continue_tokens(self, tokens: list[int], sampling_params) -> dict:
        """What follows these tokens, ungraded: ``tokens`` (with the end token or the whole stop string), ``finish``, ``stop``.

        ``finish``: stop = the end token or a stop string came, length = the token limit. ``stop``: the stop string that came, else None.
        """
        from vllm.sampling_params import RequestOutputKind

        sampling_params.output_kind = RequestOutputKind.FINAL_ONLY
        answer = (await self.generate(tokens, sampling_params)).outputs[0]
        stop = answer.stop_reason if isinstance(answer.stop_reason, str) else None
        return {"tokens": list(answer.token_ids), "finish": answer.finish_reason, "stop": stop}

    async def usage(self) -> dict[str, int]:
        """What was asked and answered since the start, by the names of ``USAGE``."""
        return dict(self.counts)

    async def ready(self) -> int:
        """Answers once the engine is up; the process id, for messages."""
        return os.getpid()


def executor_file(task_options: Mapping[str, object]) -> Path:
    """The file that the engines load: answers of one turn, or episodes of an agent."""
    file = Path(executor.__file__)
    return file.with_name("agent_executor.py") if is_environment(make_task(task_options)) else file


def start_engines(
    count: int,
    model: str,
    task_options: Mapping[str, object],
    *,
    precision: str,
    max_model_len: int,
    placement_group: PlacementGroup,
    cpus: float,
    gpus: float,
    seed: int,
    threads: int = 0,
    tensor_parallel_size: int = 1,
    enforce_eager: bool = False,
    enable_prefix_caching: bool = True,
    gpu_memory_utilization: float = 0.9,
    enable_sleep: bool = False,
    max_num_seqs: int | None = None,
    whole_prompts: bool = False,
) -> list[ActorHandle]:
    """Start ``count`` engines for ``model`` that grade with the task of ``task_options``; returns before they are up.

    ``whole_prompts``: a prompt waits for a step with room for all of it. Seeded requests on a CPU need it: vLLM 0.29.0 rewinds the generator
    of a request whose prompt is cut over two steps, a CPU generator has no offset, and the engine dies (gpu_model_runner, _bookkeeping_sync).
    """
    arguments: dict[str, object] = {
        "worker_extension_cls": WORKER,
        "task_options": json.dumps(dict(task_options)),
        "threads": threads,
    }
    if max_num_seqs:
        arguments["max_num_seqs"] = max_num_seqs
    if enable_prefix_caching and not gpus:
        arguments["block_size"] = CPU_BLOCK
    if whole_prompts:
        arguments["enable_chunked_prefill"] = False
    return create_engines(
        count,
        model,
        param_dtype=precision,
        max_model_len=max_model_len,
        placement_group=placement_group,
        cpus=cpus,
        gpus=gpus,
        seed=seed,
        tensor_parallel_size=tensor_parallel_size,
        enforce_eager=enforce_eager,
        enable_prefix_caching=enable_prefix_caching,
        gpu_memory_utilization=gpu_memory_utilization,
        enable_sleep=enable_sleep,
        agent_func_path=str(executor_file(task_options)),
        engine_arguments=arguments,
        actor_class=RolloutEngine,
    )


def load_checkpoint(engines: Sequence[ActorHandle], directory: str, timeout: float) -> None:
    """Put the model in ``directory`` into running engines of the same shape; ValueError if it does not fill them."""
    refs = [engine.load_checkpoint.remote(str(Path(directory).absolute())) for engine in engines]
    for unfilled in wait_for(refs, f"loading {directory} into the engines", timeout):
        if unfilled:
            raise ValueError(
                f"{directory} does not fill the engine's model: {', '.join(unfilled[:5])} have no weights in it"
            )
