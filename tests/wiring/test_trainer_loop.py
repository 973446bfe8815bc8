"""The loop that all rollout methods share, with GRPO in it: what is recorded, when, and that a stop at any point loses nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from openrlhf_ext.evaluate.heldout import HeldOut
from openrlhf_ext.record.run_dir import read_events, read_metrics
from openrlhf_ext.rollout.prompts import Prompt, PromptStream
from openrlhf_ext.rollout.source import SamplingOptions
from openrlhf_ext.tasks import make_task
from openrlhf_ext.trainer import Interrupted, Schedule
from tests.wiring.loop import (
    BATCH,
    ROWS,
    SAMPLES,
    STEPS,
    Killed,
    comparable,
    kill_at,
    problem_ids,
    run,
    state,
)

pytestmark = pytest.mark.usefixtures("ray_without_a_cluster")


def test_a_run_records_every_step_and_keeps_the_newest_checkpoints(tmp_path: Path) -> None:
    trainer, workers, _ = run(tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert workers.updates == 6
    order = PromptStream([Prompt(i, "", "", "") for i in range(ROWS)], seed=1).take(STEPS * BATCH)
    ids = [prompt.problem_id for prompt in order]
    assert problem_ids(tmp_path / "run") == {i + 1: ids[2 * i : 2 * i + 2] for i in range(6)}
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "latest",
        "step_000004",
        "step_000006",
    ]
    assert trainer.method.normaliser.momentum == pytest.approx(0.2)
    last = rows[-1]
    assert last["health/logprob_gap_max"] == 0.0
    assert last["health/synced_tensors"] == 26
    assert last["rollout/samples_total"] == STEPS * BATCH * SAMPLES
    assert last["train/normaliser_mean"] == trainer.method.normaliser.mean
    assert {f"time/{phase}" for phase in ("generate", "experience", "train", "sync", "step", "elapsed")} <= set(last)


# (what is being done, the how-manieth time): generation of step 4 and of step 3's second prompt, forward, update, sync, a save.
KILLS = [
    ("generate", 7),
    ("generate", 6),
    ("forward", 3),
    ("fit", 5),
    ("sync_engines", 1),
    ("save_state", 2),
    ("half saved", 2),
    ("half saved", 1),
]


@pytest.mark.parametrize(("where", "time"), KILLS)
def test_a_run_killed_anywhere_and_resumed_equals_one_that_was_not(tmp_path: Path, where: str, time: int) -> None:
    whole, workers, _ = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", before=kill_at(where, time))
    assert len(read_metrics(tmp_path / "killed" / "metrics.jsonl")) < STEPS
    resumed, later, _ = run(tmp_path / "killed", resume=True)
    assert problem_ids(tmp_path / "killed") == problem_ids(tmp_path / "whole")
    assert comparable(tmp_path / "killed") == comparable(tmp_path / "whole")
    assert state(tmp_path / "killed") == state(tmp_path / "whole")
    assert (resumed.method.normaliser, later.updates) == (whole.method.normaliser, workers.updates)


def test_a_run_may_be_killed_again_and_again(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    left = [5, 4, 3, 3]  # generations until the next kill

    def kill(name: str) -> None:
        if name == "generate" and left:
            left[0] -= 1
            if left[0] == 0:
                del left[0]
                raise Killed

    for attempt in range(4):
        with pytest.raises(Killed):
            run(tmp_path / "killed", before=kill, resume=attempt > 0, save_every=1)
    run(tmp_path / "killed", resume=True, save_every=1)
    assert problem_ids(tmp_path / "killed") == problem_ids(tmp_path / "whole")
    assert comparable(tmp_path / "killed") == comparable(tmp_path / "whole")


def test_resuming_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    run(tmp_path / "run")
    before = comparable(tmp_path / "run")
    _, workers, engine = run(tmp_path / "run", resume=True)
    assert (engine.asked, workers.calls.count("fit")) == ([], 0)
    assert comparable(tmp_path / "run") == before


def test_the_first_ctrl_c_finishes_the_step_and_saves(tmp_path: Path) -> None:
    fits = []

    def press(name: str) -> None:
        if name == "fit":
            fits.append(name)
            if len(fits) == 3:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"stopped after step 3 of 6; go on with --resume"):
        run(tmp_path / "run", before=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [1, 2, 3]
    assert state(tmp_path / "run")["step"] == 3
    assert read_events(tmp_path / "run")[-1]["kind"] == "interrupted"
    run(tmp_path / "run", resume=True)
    run(tmp_path / "whole")
    assert problem_ids(tmp_path / "run") == problem_ids(tmp_path / "whole")
    assert state(tmp_path / "run") == state(tmp_path / "whole")


def test_the_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    def press(name: str) -> None:
        if name == "fit":
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second signal was held back")

    with pytest.raises(KeyboardInterrupt) as stop:
        run(tmp_path / "run", before=press)
    assert not isinstance(stop.value, Interrupted)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_evaluation_at_the_start_on_schedule_and_at_the_end(tmp_path: Path) -> None:
    prompts = [Prompt(i, str(i), '{"answer": "7"}', "chain") for i in range(3)]
    held = HeldOut("chain", prompts, make_task({"name": "chain"}), samples=2, sample_rows=2, temperature=0.6)
    _, _, engine = run(tmp_path / "run", heldout=[held], eval_every=4)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    evaluated = {row["step"]: row for row in rows if "eval/chain/accuracy" in row}
    assert list(evaluated) == [0, 4, 6]
    assert all(row["eval/chain/accuracy"] == 1.0 for row in evaluated.values())
    assert [step for step, row in evaluated.items() if "eval/chain/pass@2" in row] == [0, 6]
    greedy = [asked for asked in engine.asked if asked[2] == 0.0]
    assert len(greedy) == 9
    assert {(samples, top_p) for _, samples, temperature, top_p in engine.asked if temperature in (0.0, 0.6)} == {
        (1, 1.0),
        (2, 1.0),
    }
    names = {path.name for path in (tmp_path / "run" / "rollouts").glob("eval_*")}
    assert names == {f"eval_chain_{step:06d}.jsonl" for step in (0, 4, 6)}


def test_the_values_of_the_progress_line_are_explained_once(tmp_path: Path) -> None:
    held = HeldOut(
        "chain", [Prompt(i, str(i), '{"answer": "7"}', "chain") for i in range(3)], make_task({"name": "chain"})
    )
    trainer, _, _ = run(tmp_path / "run", heldout=[held])
    told = [line for line in trainer.progress.stream.getvalue().splitlines() if line.startswith("values: ")]
    assert told == [
        "values: reward, correct = means over the step's answers; length = tokens per answer; "
        "chain/accuracy = share of 3 held-out problems solved greedily; s/step = median, evaluations apart"
    ]
    assert [
        row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "eval/chain/accuracy" in row
    ] == [0, 6]


@pytest.mark.parametrize(
    ("calendar", "left"),
    [
        ({"eval_every": 3}, [4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 0]),  # 3, 6, 9 and the end
        ({"eval_every": 5}, [2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 0]),  # 5 and the end, which is due anyway
        ({"eval_every": 5, "eval_at_end": False}, [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]),
        ({}, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]),
    ],
)
def test_evaluations_that_are_to_come_are_counted(calendar: dict, left: list[int]) -> None:
    schedule = Schedule(steps=10, **calendar)
    assert [schedule.evaluations_after(step) for step in range(11)] == left


def test_the_start_model_is_evaluated_before_the_engines_get_new_weights(tmp_path: Path) -> None:
    held = HeldOut("chain", [Prompt(0, "0", '{"answer": "7"}', "chain")], make_task({"name": "chain"}))
    calls: list[str] = []
    run(tmp_path / "run", heldout=[held], before=calls.append, eval_at_end=False)
    first = calls[: calls.index("sync_engines")]
    assert first.count("generate") == BATCH + 1, "the first rollout and one held-out prompt"
    assert first[-1] == "generate" and "fit" in first, "the first update did not wait for it"


def test_no_evaluation_where_it_is_switched_off(tmp_path: Path) -> None:
    held = HeldOut("chain", [Prompt(0, "0", '{"answer": "7"}', "chain")], make_task({"name": "chain"}))
    _, _, engine = run(tmp_path / "run", heldout=[held], eval_at_start=False, eval_at_end=False)
    assert not [asked for asked in engine.asked if asked[2] == 0.0]


def test_the_temperature_schedule_reaches_the_engines_and_the_models_alike(tmp_path: Path) -> None:
    options = SamplingOptions(1.6, 1.0, 4, 1, SAMPLES, 16)
    trainer, workers, engine = run(tmp_path / "run", options=options, final_temperature=0.05)
    wanted = [1.6, 0.8, 0.4, 0.2, 0.1, 0.05]  # six steps, each half of the one before
    assert [asked[2] for asked in engine.asked[::BATCH]] == pytest.approx(wanted)
    assert workers.temperatures == pytest.approx(wanted)
    assert trainer.reference_model_group.temperatures == pytest.approx(wanted)
    assert [row["rollout/temperature"] for row in comparable(tmp_path / "run")] == pytest.approx(wanted)


def test_rollouts_are_kept_as_often_as_asked(tmp_path: Path) -> None:
    run(tmp_path / "some", keep_rollouts_every=3)
    run(tmp_path / "none", keep_rollouts_every=0)
    assert sorted(problem_ids(tmp_path / "some")) == [3, 6]
    assert problem_ids(tmp_path / "none") == {}


def test_a_failing_sync_ends_the_run_and_the_directory_says_so(tmp_path: Path) -> None:
    def fail(name: str) -> None:
        if name == "sync_engines":
            raise RuntimeError("engine 0: lm_head.weight never arrived")

    with pytest.raises(RuntimeError, match="never arrived"):
        run(tmp_path / "run", before=fail)
    ending = read_events(tmp_path / "run")[-1]
    assert (ending["kind"], ending["error"]) == ("failure", "RuntimeError")


def test_a_model_is_exported_whole_or_not_at_all(tmp_path: Path) -> None:
    fail = []

    def before(name: str) -> None:
        if name == "half exported" and fail:
            raise OSError(28, "No space left on device")

    trainer, _, _ = run(tmp_path / "run", before=before)
    trainer.save_model(tmp_path / "model")
    fail.append(True)
    with pytest.raises(OSError, match="No space"):
        trainer.save_model(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_text() == "6"
    fail.clear()
    trainer.save_model(tmp_path / "model")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "run"]
