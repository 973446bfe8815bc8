"""The loop of OREO with its workers played: networks that are a table each, trained by plain gradient descent.

The trajectories, the stream, the cuts, the losses, the run directory and the checkpoints are the real ones. A group of r ranks learns as
DeepSpeed's does: every rank adds up the gradients of its own micro-batches, and the update takes their sum.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from openrlhf_ext.data.trajectory import Trajectory
from openrlhf_ext.losses.oreo import Objective, policy_share, value_share
from openrlhf_ext.methods.oreo_workers import PolicyWork, ReferenceWork, Terms, ValueWork
from openrlhf_ext.offline_trainer import OfflineTrainer
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.record.run_dir import RunDir
from openrlhf_ext.rollout.collate import OfflineBatch
from openrlhf_ext.rollout.prompts import PromptStream
from openrlhf_ext.training_loop import Calendar
from tests.wiring.loop import Killed, kill_at

__all__ = ["Killed", "kill_at"]

VOCABULARY, ROWS, BATCH, STEPS = 6, 10, 4, 6
OBJECTIVE = Objective("token", beta=0.3, alpha=0.05)


def trajectory(i: int) -> Trajectory:
    """Between one and four actions after a prompt of two tokens; every third fails."""
    length = 1 + i % 4
    tokens = [i % VOCABULARY, (i + 1) % VOCABULARY, *((i + k) % VOCABULARY for k in range(length))]
    return {
        "prompt": str(i),
        "label": "",
        "observation_tokens": tokens,
        "action_ranges": [(2, 2 + length)],
        "rollout_log_probs": None,
        "reward": float(i % 3 != 0),
        "scores": None,
        "truncated": False,
        "extra_logs": {},
        "step_starts": [2],
    }


TRAJECTORIES = [trajectory(i) for i in range(ROWS)]
START = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


class Group:
    """The ranks of a network; `table` is all that it knows."""

    rate, called = 0.5, ""

    def __init__(self, table: torch.Tensor, ranks: int, before: Callable[[str], None]) -> None:
        self.table, self.ranks, self.before = table.clone().requires_grad_(), ranks, before

    def each(self, method_name: str, works: Sequence, *args: object) -> list:
        assert len(works) == self.ranks
        self.before(f"{self.called} {method_name}")
        results = [getattr(self, method_name)(work, *args) for work in works]
        if method_name == "learn":
            with torch.no_grad():
                self.table -= self.rate * self.table.grad
            self.table.grad = None
        return results

    def async_run_method(self, method_name: str, *args: object) -> list:
        self.before(f"{self.called} {method_name}")
        return [getattr(self, method_name)(*args)]

    def save_state(self, directory: str, client_state: dict) -> None:
        self.before(f"{self.called} half saved")
        (Path(directory) / f"{self.called}.json").write_text(json.dumps(self.table.tolist()))

    def load_state(self, directory: str) -> None:
        stored = json.loads((Path(directory) / f"{self.called}.json").read_text())
        self.table = torch.tensor(stored, dtype=torch.float64, requires_grad=True)

    def save_hf(self, directory: str) -> None:
        Path(directory).mkdir(parents=True)
        (Path(directory) / "model.safetensors").write_text(self.called)


class Policy(Group):
    called = "policy"

    def learn(self, work: Sequence[PolicyWork], trajectories: int) -> tuple[list[Terms], dict]:
        terms = []
        for item in work:
            found = self.terms(item.batch)
            if item.ref_log_probs is not None:
                torch.testing.assert_close(item.ref_log_probs, found.ref_log_probs.float())
            batch = item.batch
            rest = (batch.rewards, batch.is_action, batch.starts_step, trajectories)
            policy_share(OBJECTIVE, item.values, found.log_probs - found.ref_log_probs, found.kl, *rest).loss.backward()
            terms.append(Terms(*(tensor.detach() for tensor in found)))
        return terms, {"lr": self.rate}

    def terms(self, batch: OfflineBatch) -> Terms:
        def logs(table: torch.Tensor) -> torch.Tensor:
            return table[batch.tokens[:, :-1]].log_softmax(-1)

        def of_actions(log_p: torch.Tensor) -> torch.Tensor:
            return torch.where(batch.is_action, log_p.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1), 0.0)

        log_p, log_q = logs(self.table), logs(START)
        kl = torch.where(batch.is_action, (log_p.exp() * (log_p - log_q)).sum(-1), 0.0)
        return Terms(of_actions(log_p), of_actions(log_q), kl)

    def reference_log_probs(self, work: Sequence[ReferenceWork]) -> list[torch.Tensor]:
        return [self.terms(item.batch).ref_log_probs.float() for item in work]

    def drop_reference(self) -> None:
        pass


class Value(Group):
    called = "value"

    def values(self, batches: Sequence[OfflineBatch]) -> list[torch.Tensor]:
        with torch.no_grad():
            return [self.of(batch) for batch in batches]

    def learn(self, work: Sequence[ValueWork], trajectories: int) -> dict:
        for item in work:
            batch = item.batch
            rest = (batch.rewards, batch.is_action, batch.starts_step, trajectories)
            value_share(OBJECTIVE, self.of(batch), item.log_ratios, *rest).backward()
        return {"lr": self.rate, "grad_norm": 1.0}

    def of(self, batch: OfflineBatch) -> torch.Tensor:
        return self.table[batch.tokens[:, :-1]]


def run(
    folder: Path,
    *,
    before: Callable[[str], None] = lambda name: None,
    resume: bool = False,
    policy_ranks: int = 1,
    value_ranks: int = 1,
    micro_batch: int = 2,
    data: str = "a file",
    start_value: float = 0.0,
    ref_log_probs: Sequence[torch.Tensor] | None = None,
    **calendar: int,
) -> OfflineTrainer:
    """A run to its end; with ``resume`` it goes on in ``folder``. ``before`` hears of every call of a group, before it is answered."""
    value = torch.full((VOCABULARY,), start_value, dtype=torch.float64)
    owned = RunDir.create(folder, "run: {}\n", {}, resume=resume)
    trainer = OfflineTrainer(
        policy=Policy(START, policy_ranks, before),
        value=Value(value, value_ranks, before),
        trajectories=TRAJECTORIES,
        data=data,
        stream=PromptStream(list(range(ROWS)), seed=1),
        objective=OBJECTIVE,
        batch_size=BATCH,
        micro_batch=micro_batch,
        chunk=3,
        pad_id=0,
        reward_range=(0.0, 1.0),
        schedule=Calendar(**{"steps": STEPS, "save_every": 2, "keep_checkpoints": 2} | calendar),
        run=owned,
        progress=Progress(STEPS, "test", stream=io.StringIO()),
        ref_log_probs=ref_log_probs,
    )
    with owned:
        trainer.fit()
    return trainer


def tables(trainer: OfflineTrainer) -> tuple[torch.Tensor, torch.Tensor]:
    """All parameters: of the policy, of the value network."""
    return trainer.policy.table.detach(), trainer.value.table.detach()
