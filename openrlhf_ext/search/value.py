"""Values of token prefixes, from the value network that `train oreo` saved: Ray workers, micro-batches of similar length.

Importing this module imports Ray; torch and OpenRLHF come inside the workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ray

from openrlhf_ext.plan import CPU_SHARE
from openrlhf_ext.rollout.deadline import wait_for
from openrlhf_ext.rollout.search import Tokens
from openrlhf_ext.search.batches import micro_batches


class ValueReader:
    """One worker: the network, and the value at the last token of every prefix that it is given."""

    def __init__(self, folder: str, device: str, precision: str, threads: int, batch_tokens: int) -> None:
        from openrlhf_ext import upstream

        upstream.install()
        import torch

        from openrlhf_ext.upstream.value_head import load_value_model

        if device == "cpu":
            torch.set_num_threads(threads)
        self.device, self.batch_tokens = device, batch_tokens
        self.model = load_value_model(folder, precision=precision).to(device)

    def read(self, prefixes: list[Tokens]) -> list[float]:
        """V at the last token of each prefix, in order.

        OpenRLHF's critic drops the last position of what it is given, so one more token, which nothing attends to, stands behind each.
        """
        import torch

        values = [0.0] * len(prefixes)
        for numbers in micro_batches([len(prefix) for prefix in prefixes], self.batch_tokens):
            lengths = [len(prefixes[i]) for i in numbers]
            width = max(lengths) + 1
            tokens = torch.zeros(len(numbers), width, dtype=torch.long)
            for row, i in enumerate(numbers):
                tokens[row, : lengths[row]] = torch.tensor(prefixes[i])
            is_text = torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
            tokens, is_text = tokens.to(self.device), is_text.to(self.device)
            with torch.inference_mode():
                found = self.model(tokens, torch.ones_like(tokens[:, 1:]), is_text.long())
            last = found.float().cpu().gather(1, torch.tensor(lengths).unsqueeze(1) - 1).squeeze(1)
            for row, i in enumerate(numbers):
                values[i] = last[row].item()
        return values


class ValueReaders:
    """The workers of one search; a context manager. Called with prefixes it returns their values."""

    def __init__(
        self, folder: Path, *, device: str, precision: str, count: int, threads: int, batch_tokens: int, timeout: float
    ) -> None:
        gpus, cpus = (1, 1.0) if device == "cuda" else (0, CPU_SHARE)
        worker = ray.remote(ValueReader).options(num_cpus=cpus, num_gpus=gpus)
        self.timeout = timeout
        self.workers = [
            worker.remote(str(folder.absolute()), device, precision, threads, batch_tokens) for _ in range(count)
        ]
        self.read = 0

    def __call__(self, prefixes: Sequence[Tokens]) -> list[float]:
        """Values in order; the prefixes are dealt to the workers."""
        count = len(self.workers)
        shares = [list(prefixes[i::count]) for i in range(count)]
        refs = [worker.read.remote(share) for worker, share in zip(self.workers, shares, strict=True)]
        answers = wait_for(refs, f"{len(prefixes)} values", self.timeout)
        self.read += len(prefixes)
        return [answers[i % count][i // count] for i in range(len(prefixes))]

    def __enter__(self) -> ValueReaders:
        return self

    def __exit__(self, *_: object) -> None:
        while self.workers:
            ray.kill(self.workers.pop(), no_restart=True)
