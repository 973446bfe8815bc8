"""The worker extension of our rollout engines: the checked weight sync, comparable log-probs, and models loaded into a running engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openrlhf_ext.upstream.worker import SyncWorker

if TYPE_CHECKING:
    import torch


class RolloutWorker(SyncWorker):
    """What a rollout or an evaluation needs from a vLLM worker beyond weight sync."""

    def report_full_softmax(self) -> None:
        """Let reported log-probs be those of the full softmax at each request's own temperature.

        vLLM offers raw log-probs (temperature 1) or processed ones (renormalised over the nucleus when top_p < 1); a trainer compares
        with ``log_softmax(logits / temperature)``, which is neither.
        """
        from vllm.v1.sample.sampler import Sampler

        sampler = self.model_runner.sampler
        if type(sampler) is not Sampler:
            raise TypeError(
                f"vLLM samples with {type(sampler).__name__}: the rollout log-probs were checked with {Sampler.__name__}"
            )
        sampler.__class__ = _full_softmax_sampler(Sampler)

    def load_checkpoint(self, directory: str) -> list[str]:
        """Load a Hugging Face checkpoint of the same shape; returns this worker's parameters that it did not fill."""
        model = self.model_runner.model
        reached = model.load_weights(_safetensors(Path(directory)))
        return sorted(name for name, _ in model.named_parameters() if name not in reached)


def _full_softmax_sampler(base: type) -> type:
    class FullSoftmaxSampler(base):  # type: ignore[misc, valid-type]
        """vLLM's sampler; only the log-probs that it reports differ."""

        _temperature: torch.Tensor | None = None

        def forward(self, logits: torch.Tensor, sampling_metadata: Any, *args: Any, **kwargs: Any) -> Any:
            self._temperature = sampling_metadata.temperature  # [requests] or None where all are greedy
            return super().forward(logits, sampling_metadata, *args, **kwargs)

        def compute_logprobs(self, logits: torch.Tensor) -> torch.Tensor:
            temperature, self._temperature = self._temperature, None  # the raw logits come first, and once
            if temperature is not None:
                # Greedy requests in a mixed batch carry a temperature of 0 or less and are reported at 1.
                logits = logits.float() / temperature.float().where(temperature > 1e-5, 1.0).unsqueeze(1)
            return base.compute_logprobs(logits)  # type: ignore[attr-defined]

    return FullSoftmaxSampler


def _safetensors(directory: Path) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors import safe_open

    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{directory} holds no *.safetensors")
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                yield name, tensors.get_tensor(name)
