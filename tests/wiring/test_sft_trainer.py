"""OpenRLHF's SFT trainer with our records, on a table of weights and one process: rows, checkpoints that are whole or absent, a resume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from openrlhf_ext.checkpoint import checkpoints, latest_checkpoint, read_state
from openrlhf_ext.methods.sft_trainer import RecordedSFTTrainer
from openrlhf_ext.record.rows import read_metrics
from openrlhf_ext.record.run_dir import RunDir
from tests.wiring.preference_loop import OneProcess, arguments, loader

WORDS = 7
ROWS, BATCH, EPOCHS = 10, 4, 2  # 5 micro-batches of 2 an epoch: the third update takes rows of both epochs
UPDATES = ROWS * EPOCHS // BATCH


class DiskFull(OSError):
    pass


class Engine(torch.nn.Module):
    """DeepSpeed's engine, played: a table of logits, a count of updates, files. ``breaks_at``: the disk is full in that save."""

    def __init__(self, breaks_at: int | None) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(WORDS, WORDS)
        torch.nn.init.zeros_(self.table.weight)
        self.global_steps, self.breaks_at = 0, breaks_at

    def save_checkpoint(self, root: str, tag: str, client_state: dict, save_latest: bool) -> None:
        assert not save_latest, "the pointer is ours to write, last"
        torch.save(self.table.state_dict(), Path(root) / tag / "weights.pt")
        if self.global_steps == self.breaks_at:
            raise DiskFull("no space left on device")


class Policy(torch.nn.Module):
    """OpenRLHF's Actor around it."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.model = engine

    def forward(self, ids: torch.Tensor, *, attention_mask: torch.Tensor, return_output: bool = False, **_: object):
        found = self.model.table(ids[:, :-1]).log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        return (found, SimpleNamespace()) if return_output else found


class Strategy(OneProcess):
    def __init__(self, args: Any, engine: Engine) -> None:
        super().__init__(args)
        self.engine = engine

    def optimizer_step(self, optimizer: Any, model: object, scheduler: Any) -> None:
        super().optimizer_step(optimizer, model, scheduler)
        self.engine.global_steps += self._waiting == 0


class Rows(torch.utils.data.Dataset):
    """Row i counts up from i; the first token is the prompt."""

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> torch.Tensor:
        return (torch.arange(5) * (1 + index % 3) + index) % WORDS

    def collate_fn(self, rows: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        ids = torch.stack(rows)[:, None]
        mask = torch.ones_like(ids)
        wanted = mask.clone()
        wanted[..., 0] = 0
        return ids, mask, wanted


@pytest.fixture(autouse=True)
def one_rank(tmp_path: Path) -> Iterator[None]:
    """A save waits for all ranks; here there is one."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'ranks'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def train(run: Path, *, breaks_at: int | None = None, resume: bool = False, **changes: object) -> Engine:
    """The engine after the run, which goes on from the newest checkpoint with ``resume``."""
    plain = {"ckpt__save_steps": 2, "ckpt__max_num": 1, "train__batch_size": BATCH, "record__resume": resume}
    args = arguments(run, **plain | changes)
    engine = Engine(breaks_at)
    consumed, kept = 0, latest_checkpoint(run / "checkpoints") if resume else None
    if kept is not None:
        state = read_state(kept)
        consumed, engine.global_steps = state["consumed_samples"], state["step"]
        engine.table.load_state_dict(torch.load(kept / "weights.pt"))
    optimizer = torch.optim.SGD(engine.parameters(), lr=0.5)
    trainer = RecordedSFTTrainer(
        model=Policy(engine),
        strategy=Strategy(args, engine),
        optim=optimizer,
        train_dataloader=loader(Rows(), args, train=True),
        eval_dataloader=None,
        scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        max_epochs=EPOCHS,
    )
    with RunDir.create(run, "x: 1\n", {}, resume=resume):
        trainer.fit(args, consumed, ROWS // BATCH)
    return engine


def test_a_checkpoint_is_written_beside_the_last_one_and_then_takes_its_place(tmp_path: Path) -> None:
    train(tmp_path / "run")
    root = tmp_path / "run" / "checkpoints"
    assert [path.name for path in checkpoints(root)] == ["step_000004"]
    assert (root / "latest").read_text() == "step_000004\n", "DeepSpeed's loader follows it"
    assert read_state(root / "step_000004") == {"step": 4, "consumed_samples": 16}
    assert sorted(path.name for path in root.iterdir()) == ["latest", "step_000004"]


def test_a_run_that_broke_in_a_save_goes_on_from_the_one_before(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    with pytest.raises(DiskFull):
        train(tmp_path / "run", breaks_at=4)
    kept = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert kept is not None and read_state(kept)["step"] == 2
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [1, 2, 3, 4], "rows come first"
    again = train(tmp_path / "run", resume=True)
    torch.testing.assert_close(again.table.weight, whole.table.weight)
    assert whole.table.weight.abs().max() > 0.1
    ours, theirs = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("run", "whole"))
    assert [row["step"] for row in ours] == list(range(1, UPDATES + 1))
    for key in ("train/loss", "train/tokens_total"):
        assert [row[key] for row in ours] == pytest.approx([row[key] for row in theirs])


@pytest.mark.parametrize("changes", [{"ckpt__save_steps": -1}, {"ckpt__save_steps": 100}])
def test_nothing_is_saved_where_nothing_is_due(tmp_path: Path, changes: dict) -> None:
    train(tmp_path / "run", **changes)
    assert checkpoints(tmp_path / "run" / "checkpoints") == []
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == UPDATES
