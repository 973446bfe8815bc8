"""The run directory keeps its promises: nothing lost, nothing overwritten, every torn end mended."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from openrlhf_ext.record import jsonl
from openrlhf_ext.record.jsonl import DiskFull, append_row, dumps, read_lines, repair_tail, write_atomic
from openrlhf_ext.record.run_dir import RunDir, RunDirBusy, RunDirExists, read_events, read_metrics, read_rollouts
from openrlhf_ext.record.settings import is_secret, masked, without_secrets


def kinds(path: Path) -> list[str]:
    return [event["kind"] for event in read_events(path)]


def test_a_fresh_run_writes_its_configuration_plan_and_start(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "deep" / "run", "run:\n  seed: 7\n", {"device": "cpu"}, info={"method": "grpo"})
    assert (run.path / "config.yaml").read_text() == "run:\n  seed: 7\n"
    assert json.loads((run.path / "plan.json").read_text()) == {"device": "cpu"}
    (start,) = read_events(run.path)
    assert start["kind"] == "start" and start["method"] == "grpo" and start["time"].endswith("+00:00")
    assert run.checkpoints.is_dir() and run.rollouts.is_dir() and not run.resumed


def test_every_row_carries_the_cumulative_costs(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "", {})
    run.metrics(0, {"eval/game24/accuracy": 0.3})
    run.add_cost(rollout_tokens=100, rollout_samples=4, train_tokens=120)
    run.metrics(1, {"train/kl": 0.1})
    run.add_cost(rollout_tokens=50, rollout_samples=2, train_tokens=60)
    run.metrics(2, {"train/kl": 0.2})
    rows = read_metrics(run.path)
    assert [row["rollout/tokens_total"] for row in rows] == [0, 100, 150]
    assert [row["rollout/samples_total"] for row in rows] == [0, 4, 6]
    assert [row["train/tokens_total"] for row in rows] == [0, 120, 180]
    assert rows[0]["time/elapsed"] <= rows[1]["time/elapsed"] <= rows[2]["time/elapsed"]


@pytest.mark.parametrize("key", ["loss", "actor/loss", "evaluation/x"])
def test_a_metric_without_a_known_prefix_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=key):
        RunDir.create(tmp_path, "", {}).metrics(1, {key: 1.0})


def test_a_metric_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="train/loss"):
        RunDir.create(tmp_path, "", {}).metrics(1, {"train/loss": "0.1"})  # type: ignore[dict-item]


def test_numbers_of_other_libraries_become_plain_ones(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    run = RunDir.create(tmp_path, "", {})
    run.metrics(1, {"train/loss": numpy.float32(0.5), "train/count": numpy.int64(3), "health/ok": True})
    (row,) = read_metrics(run.path)
    assert (row["train/loss"], row["train/count"], row["health/ok"]) == (0.5, 3, 1)


def test_not_finite_metrics_are_null_and_warned_about_once(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "", {})
    run.metrics(1, {"train/kl": math.nan, "train/loss": math.inf})
    run.metrics(2, {"train/kl": math.nan})
    text = run.metrics_file.read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert read_metrics(run.path)[0]["train/kl"] is None
    warnings = [event["message"] for event in read_events(run.path) if event["kind"] == "warning"]
    assert warnings == ["not finite at step 1: train/kl, train/loss"]


def test_steps_do_not_go_back_without_a_rewind(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "", {})
    run.metrics(5, {})
    with pytest.raises(ValueError, match="step 4 after step 5"):
        run.metrics(4, {})


def test_rows_of_one_step_are_merged_by_the_reader(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "", {})
    run.metrics(1, {"train/kl": 0.1})
    run.metrics(1, {"eval/a/accuracy": 0.5})
    (row,) = read_metrics(run.path)
    assert row["train/kl"] == 0.1 and row["eval/a/accuracy"] == 0.5


def test_a_directory_with_a_run_is_refused_with_the_fix(tmp_path: Path) -> None:
    RunDir.create(tmp_path, "", {}).metrics(1, {"train/kl": 0.1})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(RunDirExists, match=r"--resume.*run\.overwrite.*run\.dir"):
        RunDir.create(tmp_path, "other", {})
    assert (tmp_path / "metrics.jsonl").read_bytes() == before and (tmp_path / "config.yaml").read_text() == ""


def test_a_folder_with_unrelated_files_may_become_a_run_and_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("mine")
    run = RunDir.create(tmp_path, "", {})
    run.close()
    RunDir.create(tmp_path, "", {}, overwrite=True)
    assert (tmp_path / "train.log").read_text() == "mine"


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_what_is_no_run_is_neither_resumed_nor_removed(tmp_path: Path, how: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("precious")
    with pytest.raises(RunDirExists, match=r"no events\.jsonl"):
        RunDir.create(tmp_path, "", {}, resume=how == "resume", overwrite=how == "overwrite")
    assert (tmp_path / "model" / "weights").read_text() == "precious"


def test_overwrite_removes_the_run_that_was_there(tmp_path: Path) -> None:
    first = RunDir.create(tmp_path, "a: 1\n", {})
    first.metrics(9, {"train/kl": 0.1})
    first.write_rollouts("step_000009", [{"step": 9}])
    (first.checkpoints / "step_9").mkdir()
    first.close()
    run = RunDir.create(tmp_path, "a: 2\n", {}, overwrite=True)
    assert read_metrics(tmp_path) == [] and kinds(tmp_path) == ["start"]
    assert not list(run.rollouts.iterdir()) and not list(run.checkpoints.iterdir())


def test_resume_and_overwrite_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contradict"):
        RunDir.create(tmp_path, "", {}, resume=True, overwrite=True)


def test_resume_goes_on_with_totals_and_says_what_changed(tmp_path: Path) -> None:
    first = RunDir.create(tmp_path, "run:\n  seed: 1\nactor:\n  lr: 0.1\n", {})
    first.add_cost(rollout_tokens=100)
    first.totals.elapsed = 50.0
    first.metrics(1, {})
    first.close("interrupted")
    run = RunDir.create(tmp_path, "run:\n  seed: 1\nactor:\n  lr: 0.2\n", {}, resume=True)
    run.add_cost(rollout_tokens=10)
    run.metrics(2, {})
    rows = read_metrics(tmp_path)
    assert run.resumed and rows[1]["rollout/tokens_total"] == 110 and rows[1]["time/elapsed"] >= 50.0
    assert kinds(tmp_path) == ["start", "interrupted", "resume", "config_changed"]
    assert read_events(tmp_path)[-1]["changed"] == {"actor.lr": [0.1, 0.2]}
    assert "lr: 0.1" in (tmp_path / "config.1.yaml").read_text() and "lr: 0.2" in (tmp_path / "config.yaml").read_text()


def test_resume_without_a_run_starts_one(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "new", "", {}, resume=True)
    assert not run.resumed and kinds(run.path) == ["start"]


def test_rewind_drops_later_rows_and_rollouts_and_says_so(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "", {})
    for step in range(1, 6):
        run.add_cost(rollout_tokens=10)
        run.metrics(step, {"train/kl": step / 10})
        run.write_rollouts(f"step_{step:06d}", [{"step": step}])
    run.write_rollouts("all", [{"step": step} for step in range(1, 6)])
    run.rewind(3)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3]
    assert sorted(path.name for path in run.rollouts.iterdir()) == [
        "all.jsonl",
        *[f"step_00000{i}.jsonl" for i in (1, 2, 3)],
    ]
    assert [row["step"] for row in read_rollouts(tmp_path, "all")] == [1, 2, 3]
    event = read_events(tmp_path)[-1]
    assert (event["kind"], event["step"], event["dropped_rows"], event["dropped_rollout_files"]) == ("rewind", 3, 2, 3)
    run.add_cost(rollout_tokens=10)
    run.metrics(4, {})
    assert read_metrics(tmp_path)[-1]["rollout/tokens_total"] == 40


def test_rewind_that_drops_nothing_writes_no_event(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "", {})
    run.metrics(1, {})
    run.rewind(1)
    assert kinds(tmp_path) == ["start"]


def test_a_torn_last_line_is_left_out_by_readers_and_mended_by_resume(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "", {})
    run.metrics(1, {"train/kl": 0.1})
    run.close("interrupted")
    with run.metrics_file.open("ab") as file:
        file.write(b'{"step": 2, "train/k')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]
    again = RunDir.create(tmp_path, "", {}, resume=True)
    again.metrics(2, {"train/kl": 0.2})
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2] and read_lines(run.metrics_file).bad == ()
    assert "20 bytes of an unfinished last line" in read_events(tmp_path)[-1]["message"]


def test_a_last_line_that_only_misses_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}')
    assert repair_tail(path) == 0
    assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n'


def test_bad_lines_in_the_middle_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\nnot json\n[1]\n\n{"a": 2}\n{"a"')
    lines = read_lines(path)
    assert (lines.rows, lines.bad, lines.torn) == ([{"a": 1}, {"a": 2}], (2, 3), True)


def test_a_writer_killed_in_the_middle_leaves_a_resumable_run(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from openrlhf_ext.record.run_dir import RunDir
        run = RunDir.create(sys.argv[1], "", {})
        step = 0
        while True:
            step += 1
            run.metrics(step, {"train/kl": 0.1})
            if step == 20:
                print("ready", flush=True)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(RunDirBusy, match=f"process {process.pid}"):
        RunDir.create(tmp_path, "", {}, resume=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    steps = [row["step"] for row in read_metrics(tmp_path)]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= 20
    run = RunDir.create(tmp_path, "", {}, resume=True)
    run.rewind(10)
    assert [row["step"] for row in read_metrics(tmp_path)] == list(range(1, 11))


def test_a_reader_beside_the_writer_never_sees_a_broken_row(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "", {})
    done, seen = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            lines = read_lines(run.metrics_file)
            assert not lines.bad
            seen.append(len(lines.rows))

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(1, 300):
        run.metrics(step, {"train/kl": 0.1})
        if step % 100 == 0:
            run.rewind(step - 50)
    done.set()
    reader.join()
    assert max(seen) > 10


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, ["old"])

    def chunks():
        yield "new"
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        write_atomic(path, chunks())
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_says_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir.create(tmp_path, "", {})
    run.metrics(3, {"train/kl": 0.1})
    (run.checkpoints / "step_2").mkdir()
    (run.checkpoints / "step_10.tmp").mkdir()
    size = run.metrics_file.stat().st_size
    write = os.write

    def half(handle: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(28, "No space left on device")
        return write(handle, data[:30])

    monkeypatch.setattr(jsonl.os, "write", half)
    with pytest.raises(DiskFull, match=r"metrics\.jsonl.*step 3, checkpoint step_2.*--resume"):
        run.metrics(4, {"train/kl": 0.2})
    assert run.metrics_file.stat().st_size == size


def test_other_disk_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        append_row(tmp_path / "no" / "folder", {})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_really_full_device_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="everything before"), jsonl.disk_errors(tmp_path, "everything before"):
        handle = os.open("/dev/full", os.O_WRONLY)
        try:
            os.write(handle, b"x")
        finally:
            os.close(handle)


def test_the_ending_is_recorded(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "a", "", {}):
        pass
    with pytest.raises(ValueError), RunDir.create(tmp_path / "b", "", {}):
        raise ValueError("worker 3 died")
    with pytest.raises(KeyboardInterrupt), RunDir.create(tmp_path / "c", "", {}):
        raise KeyboardInterrupt
    assert [kinds(tmp_path / name)[-1] for name in "abc"] == ["finish", "failure", "interrupted"]
    failure = read_events(tmp_path / "b")[-1]
    assert (failure["error"], failure["message"]) == ("ValueError", "worker 3 died")


def test_a_worker_error_is_recorded_not_its_wrapper(tmp_path: Path) -> None:
    class TaskError(RuntimeError):
        cause = MemoryError("rank 0: 23.1 of 24.0 GiB used")

    with pytest.raises(TaskError), RunDir.create(tmp_path, "", {}):
        raise TaskError("ray::Worker.run() (pid=1) ...")
    failure = read_events(tmp_path)[-1]
    assert (failure["error"], failure["message"]) == ("MemoryError", "rank 0: 23.1 of 24.0 GiB used")


def test_a_worker_appends_to_the_run_of_its_driver(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "", {})
    run.add_cost(train_tokens=5)
    run.metrics(1, {})
    worker = RunDir.open(tmp_path)
    worker.add_cost(train_tokens=5)
    worker.metrics(2, {"train/loss": 0.5})
    assert [row["train/tokens_total"] for row in read_metrics(tmp_path)] == [5, 10]
    with pytest.raises(FileNotFoundError):
        RunDir.open(tmp_path / "rollouts")


@pytest.mark.parametrize("name", ["../escape", "a/b", ".hidden", ""])
def test_rollout_names_stay_inside_their_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError):
        RunDir.create(tmp_path, "", {}).write_rollouts(name, [])


def test_rollouts_are_read_in_order_of_steps(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "", {})
    for step in (10, 9, 100):
        run.write_rollouts(f"step_{step}", [{"step": step, "reward": math.nan, "when": {1, 2}}])
    rows = list(read_rollouts(tmp_path))
    assert [row["step"] for row in rows] == [9, 10, 100] and rows[0]["reward"] is None and rows[0]["when"] == [1, 2]


def test_dumps_is_standard_json_also_for_nested_nan() -> None:
    assert json.loads(dumps({"a": [1.0, math.nan, {"b": -math.inf}], "c": Path("x")})) == {
        "a": [1.0, None, {"b": None}],
        "c": "x",
    }
    with pytest.raises(TypeError, match="object"):
        dumps({"a": object()})


def test_secrets_stay_out_of_the_recorded_command_line() -> None:
    argv = ["train", "grpo", "--logger.wandb.key", "hunter2", "--data.input_key", "question", "--hf.token=abc"]
    assert without_secrets(argv) == [
        "train",
        "grpo",
        "--logger.wandb.key",
        "...",
        "--data.input_key",
        "question",
        "--hf.token=...",
    ]
    text = "logger:\n  wandb:\n    key: hunter2\n    org: null\ndata:\n  input_key: question\n"
    assert masked(text) == text.replace("hunter2", "'...'")
    assert is_secret("logger.wandb.key") and not is_secret("data.label_key")
