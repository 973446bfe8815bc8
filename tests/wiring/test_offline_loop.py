"""The loop of OREO: what is recorded, that a stop at any point loses nothing, and that neither micro-batches nor ranks change an update."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from openrlhf_ext.offline_trainer import reference_log_probs
from openrlhf_ext.record.run_dir import read_events, read_metrics
from openrlhf_ext.rollout.micro_batches import columns, cut, deal, pieces_of_rounds, undeal
from openrlhf_ext.training_loop import Interrupted
from tests.wiring.loop import comparable, kill_at, state
from tests.wiring.offline_loop import BATCH, ROWS, START, STEPS, TRAJECTORIES, Killed, Policy, run, tables

pytestmark = pytest.mark.usefixtures("ray_without_a_cluster")


def test_a_run_learns_records_every_step_and_keeps_both_models(tmp_path: Path) -> None:
    trainer = run(tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    legend = "values: value loss, policy loss = of the step's trajectories; kl = to the start model; s/step = median\n"
    assert trainer.progress.stream.getvalue().count(legend) == 1
    first, last = rows[0], rows[-1]
    batch = trainer.stream.__class__(list(range(ROWS)), seed=1).take(BATCH)
    rewards = [TRAJECTORIES[i]["reward"] for i in batch]
    assert first["train/reward_mean"] == pytest.approx(sum(rewards) / BATCH)
    # V = 0 and pi = pi_ref: every residual is -R, and the KL is 0.
    assert first["train/value_loss"] == first["train/bellman"] == pytest.approx(sum(r * r for r in rewards) / BATCH)
    assert first["train/kl"] == pytest.approx(0.0, abs=1e-12)
    assert last["train/value_loss"] < first["train/value_loss"]
    assert last["train/value_success"] > last["train/value_failure"]
    assert last["train/log_ratio_success"] > last["train/log_ratio_failure"]
    assert last["train/policy_loss"] == pytest.approx(last["train/bellman"] + 0.05 * last["train/kl"])
    assert last["train/epoch"] == pytest.approx(STEPS * BATCH / ROWS)
    tokens = sum(len(TRAJECTORIES[i]["observation_tokens"]) for i in batch)
    assert first["train/tokens_total"] == tokens
    assert {"train/lr", "train/critic_lr", "train/critic_grad_norm", "health/value_outside"} <= set(last)
    assert {"time/values", "time/policy", "time/value", "time/step", "memory/tree_gib"} <= set(last)
    trainer.save_models()
    assert (tmp_path / "run" / "model" / "model.safetensors").read_text() == "policy"
    assert (tmp_path / "run" / "value" / "model.safetensors").read_text() == "value"
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "latest",
        "step_000004",
        "step_000006",
    ]


@pytest.mark.parametrize(
    ("where", "time"),
    [
        ("value values", 4),
        ("policy learn", 3),
        ("value learn", 5),
        ("value learn", 1),
        ("policy half saved", 2),
        ("value half saved", 1),
        ("value half saved", 3),
    ],
)
def test_a_run_killed_anywhere_and_resumed_equals_one_that_was_not(tmp_path: Path, where: str, time: int) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", before=kill_at(where, time))
    resumed = run(tmp_path / "killed", resume=True)
    assert comparable(tmp_path / "killed") == comparable(tmp_path / "whole")
    assert state(tmp_path / "killed") == state(tmp_path / "whole")
    for ours, theirs in zip(tables(resumed), tables(whole), strict=True):
        assert torch.equal(ours, theirs)


def test_the_value_network_alone_half_updated_would_show(tmp_path: Path) -> None:
    # The control: a policy that goes on from another step than its value network ends elsewhere.
    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", before=kill_at("value learn", 5))
    (tmp_path / "killed/checkpoints/step_000004/value.json").write_text(
        (tmp_path / "killed/checkpoints/step_000002/value.json").read_text()
    )
    resumed = run(tmp_path / "killed", resume=True)
    assert not torch.equal(tables(resumed)[0], tables(whole)[0])


@pytest.mark.parametrize(
    ("micro_batch", "policy_ranks", "value_ranks"), [(4, 1, 1), (1, 1, 1), (2, 2, 1), (1, 2, 4), (1, 4, 2)]
)
def test_micro_batches_and_ranks_change_nothing(
    tmp_path: Path, micro_batch: int, policy_ranks: int, value_ranks: int
) -> None:
    whole = run(tmp_path / "whole")
    other = run(tmp_path / "other", micro_batch=micro_batch, policy_ranks=policy_ranks, value_ranks=value_ranks)
    for ours, theirs in zip(tables(other), tables(whole), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)
    names = ("train/value_loss", "train/policy_loss", "train/kl", "health/value_max", "train/log_ratio_failure")
    for mine, row in zip(comparable(tmp_path / "other"), comparable(tmp_path / "whole"), strict=True):
        assert {n: mine[n] for n in names if n in row} == pytest.approx(
            {n: row[n] for n in names if n in row}, rel=1e-6
        )


def test_other_data_than_the_checkpoints_is_refused_and_nothing_is_dropped(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "run", before=kill_at("policy learn", 4))
    before = read_metrics(tmp_path / "run" / "metrics.jsonl")
    with pytest.raises(ValueError, match="not those of the checkpoint"):
        run(tmp_path / "run", resume=True, data="another file")
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == before


def test_the_first_ctrl_c_finishes_the_step_and_saves(tmp_path: Path) -> None:
    learnt = []

    def press(name: str) -> None:
        if name == "policy learn":
            learnt.append(name)
            if len(learnt) == 3:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="stopped after step 3 of 6"):
        run(tmp_path / "run", before=press)
    resumed, whole = run(tmp_path / "run", resume=True), run(tmp_path / "whole")
    assert torch.equal(tables(resumed)[0], tables(whole)[0])


def test_values_that_leave_the_scale_are_warned_of_once(tmp_path: Path) -> None:
    def warnings(folder: Path) -> list[dict]:
        return [event for event in read_events(folder) if event["kind"] == "warning"]

    run(tmp_path / "inside")
    assert warnings(tmp_path / "inside") == []
    run(tmp_path / "outside", start_value=3.0)
    (warning,) = warnings(tmp_path / "outside")
    assert "[-0.1, 1.1]" in warning["message"] and warning["step"] == 1
    assert read_metrics(tmp_path / "outside" / "metrics.jsonl")[0]["health/value_outside"] == 1.0


@pytest.mark.parametrize("ranks", [1, 2])
def test_log_probs_of_the_reference_come_back_in_order(tmp_path: Path, ranks: int) -> None:
    group = Policy(START, ranks, lambda name: None)
    found = reference_log_probs(group, TRAJECTORIES, micro_batch=3, chunk=2, pad_id=0, timeout=1.0)
    assert [len(row) for row in found] == [columns(row) for row in TRAJECTORIES]
    log_q = START.log_softmax(-1)
    for row, stored in zip(TRAJECTORIES, found, strict=True):
        tokens, (start, end) = row["observation_tokens"], row["action_ranges"][0]
        want = [log_q[tokens[t], tokens[t + 1]].item() if t + 1 >= start else 0.0 for t in range(end - 1)]
        assert stored.tolist() == pytest.approx(want, rel=1e-6)
    # And they reach the policy beside their own trajectories: the played policy compares.
    run(tmp_path / "run", policy_ranks=ranks, ref_log_probs=found)


def test_cutting_and_dealing() -> None:
    lengths = [len(row["observation_tokens"]) for row in TRAJECTORIES]
    rows = cut([7, 0, 3, 4, 1, 2], TRAJECTORIES, 2)
    assert sorted(i for row in rows for i in row) == [0, 1, 2, 3, 4, 7]
    assert [lengths[i] for row in rows for i in row] == sorted(lengths[i] for i in (7, 0, 3, 4, 1, 2))
    dealt = deal(list("abcdef"), 3)
    assert dealt == [["a", "d"], ["b", "e"], ["c", "f"]]
    assert undeal(dealt) == list("abcdef")
    assert pieces_of_rounds([1, 5, 2, 2, 3, 1], 2) == [5, 5, 2, 2, 3, 3]
    with pytest.raises(ValueError, match="5 micro-batches do not divide over 2 ranks"):
        deal(list("abcde"), 2)
