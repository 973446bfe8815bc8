"""vLLM engines for an evaluation: started once per shape, models exchanged inside them.

Importing this module imports Ray; vLLM and OpenRLHF come with ``EnginePool.start``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ray

from openrlhf_ext.evaluate.asking import Answerer, Ask, Continuer, Prefix
from openrlhf_ext.evaluate.models import Model
from openrlhf_ext.evaluate.options import EngineOptions
from openrlhf_ext.plan import CPU_SHARE
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.rollout.deadline import DeadlineExceeded, wait_for
from openrlhf_ext.session import connect, worker_environment

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.util.placement_group import PlacementGroup
    from transformers import PreTrainedTokenizerBase
    from vllm import SamplingParams


class EnginePool:
    """The engines of one evaluation; a context manager that gives their places back at the end (the Ray session stays for the next job)."""

    def __init__(self, options: EngineOptions, progress: Progress) -> None:
        self.options, self.progress = options, progress
        self.engines: list[ActorHandle] = []
        self.starts = 0
        self._placement: PlacementGroup | None = None

    def __enter__(self) -> EnginePool:
        self.progress.phase("start Ray")
        options = self.options
        environment = worker_environment(options.device, options.threads, options.kv_cache_gib)
        connect(options.ray_address, environment)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, model: Model, task: Mapping[str, object], tokenizer: PreTrainedTokenizerBase, length: int) -> None:
        """Start engines for ``model`` and prompts + answers of ``length`` tokens, in place of those that run.

        Raises DeadlineExceeded, naming what is waited for, after ``start_timeout``.
        """
        self.stop()
        self.progress.phase(
            f"start {self.options.count} engine{'s' if self.options.count > 1 else ''} for {model.name}"
        )
        from openrlhf_ext import upstream

        upstream.install()
        from openrlhf_ext.rollout.engines import start_engines

        options = self.options
        on_cpu = options.device == "cpu"
        self._place()
        self.engines = start_engines(
            options.count,
            str(model.folder.absolute()),
            task,
            precision=options.precision,
            max_model_len=length,
            placement_group=self._placement,
            cpus=self._bundle()["CPU"] if options.tensor_parallel_size == 1 else 0,
            gpus=0 if on_cpu else 1,
            seed=options.seed,
            threads=options.threads if on_cpu else 0,
            tensor_parallel_size=options.tensor_parallel_size,
            enforce_eager=on_cpu,
            gpu_memory_utilization=options.gpu_memory_utilization,
            max_num_seqs=min(256, options.wave) if on_cpu else None,
            whole_prompts=on_cpu,
        )
        self._wait([engine.ready.remote() for engine in self.engines], f"starting the engine for {model.name}")
        self.starts += 1
        self._length, self._tokenizer = length, ray.put(tokenizer)

    def exchange(self, model: Model) -> None:
        """Put another model of the same shape into the running engines. ValueError if its weights do not fill them."""
        from openrlhf_ext.rollout.engines import load_checkpoint

        self.progress.phase(f"load {model.name}")
        load_checkpoint(self.engines, str(model.folder), self.options.start_timeout)

    def answers(
        self, max_new_tokens: int, top_p: float, *, top_k: int = 0, stop: Sequence[str] = (), logprobs: bool = False
    ) -> Answerer:
        """Answers asks in one wave over all engines, each with its own seed. ``top_k`` = 0 samples from the whole vocabulary.

        The text ends before the first of the ``stop`` strings, the tokens with it. ``logprobs``: of the sampled tokens, full softmax.
        """

        def answer(asks: Sequence[Ask]) -> list[dict]:
            refs = [
                self.engines[i % len(self.engines)].generate_responses.remote(
                    prompt=ask.prompt.text,
                    label=ask.prompt.label,
                    sampling_params=_sampling(
                        ask.temperature,
                        ask.seed,
                        max_new_tokens,
                        top_p,
                        top_k=top_k,
                        min_tokens=1,
                        stop=list(stop) or None,
                        logprobs=0 if logprobs else None,
                    ),
                    max_length=self._length,
                    hf_tokenizer=self._tokenizer,
                )
                for i, ask in enumerate(asks)
            ]
            responses = wait_for(refs, f"{len(asks)} answers", self.options.wave_timeout)
            return [group[0] for group in responses]

        return answer

    def continuations(self, max_new_tokens: int, top_p: float = 1.0, *, stop: Sequence[str] = ()) -> Continuer:
        """Continues token prefixes in one wave over all engines, each with its own seed; nothing is graded.

        The tokens hold the end token, or the whole stop string.
        """

        def more(prefixes: Sequence[Prefix]) -> list[dict]:
            refs = [
                self.engines[prefix.group % len(self.engines)].continue_tokens.remote(
                    list(prefix.tokens),
                    # With min_tokens vLLM would overlook a stop string in the first token.
                    _sampling(
                        prefix.temperature,
                        prefix.seed,
                        min(max_new_tokens, prefix.room or max_new_tokens),
                        top_p,
                        min_tokens=0,
                        stop=list(stop) or None,
                    ),
                )
                for prefix in prefixes
            ]
            return wait_for(refs, f"{len(prefixes)} continuations", self.options.wave_timeout)

        return more

    def usage(self) -> dict[str, int]:
        """What the running engines were asked and gave: requests, prompt_tokens, cached_tokens, generated_tokens."""
        from openrlhf_ext.rollout.engines import USAGE

        counts = wait_for([e.usage.remote() for e in self.engines], "the engines' counts", self.options.start_timeout)
        return {name: sum(count[name] for count in counts) for name in USAGE}

    def stop(self) -> None:
        """End the engines and give their places back."""
        while self.engines:
            ray.kill(self.engines.pop(), no_restart=True)
        if self._placement is not None:
            from ray.util.placement_group import remove_placement_group

            remove_placement_group(self._placement)
            self._placement = None

    def _place(self) -> None:
        from ray.util.placement_group import placement_group

        options = self.options
        bundle = self._bundle()
        bundles = [bundle] * (options.count * options.tensor_parallel_size)
        self._placement = placement_group(bundles, strategy="PACK")
        try:
            self._wait([self._placement.ready()], f"placing {len(bundles)} x {bundle}")
        except DeadlineExceeded as error:
            free = {key: value for key, value in ray.available_resources().items() if key in ("CPU", "GPU")}
            raise DeadlineExceeded(f"{error}. Free now: {free or 'nothing'}") from None

    def _bundle(self) -> dict[str, float]:
        """What one vLLM worker books."""
        return {"CPU": CPU_SHARE} if self.options.device == "cpu" else {"CPU": 1.0, "GPU": 1.0}

    def _wait(self, refs: Sequence[ray.ObjectRef], what: str) -> None:
        try:
            wait_for(refs, what, self.options.start_timeout)
        except DeadlineExceeded:
            raise DeadlineExceeded(
                f"{what} took longer than {self.options.start_timeout:.0f} s; a longer deadline: --engine-timeout"
            ) from None


def _sampling(
    temperature: float,
    seed: int,
    max_tokens: int,
    top_p: float,
    *,
    min_tokens: int,
    top_k: int = 0,
    stop: list[str] | None = None,
    logprobs: int | None = None,
) -> SamplingParams:
    from vllm import SamplingParams

    return SamplingParams(
        temperature=temperature,
        top_p=top_p if temperature else 1.0,
        top_k=top_k if temperature else 0,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        seed=seed if temperature else None,
        skip_special_tokens=False,
        stop=stop,
        logprobs=logprobs,
    )
