"""Checkpoints exist whole or not at all: a kill before any system call, a real SIGKILL at random moments, a full disk."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openrlhf_ext.checkpoint import checkpoints, follow_umask, latest_checkpoint, read_state, save_checkpoint

CALLS = ("mkdir", "open", "fsync", "rename", "replace", "unlink", "rmdir", "remove")


def workers(content: str = "weights") -> Callable[[Path], None]:
    """Writes what the ranks would: a folder with a file that names its content's digest."""

    def write(directory: Path) -> None:
        (directory / "policy").mkdir()
        digest = hashlib.sha256(content.encode()).hexdigest()
        (directory / "policy" / "rank0.pt").write_text(f"{digest}\n{content}")
        (directory / "policy" / "rank1.pt").write_text(f"{digest}\n{content}")

    return write


def is_whole(checkpoint: Path) -> bool:
    """Every file of the checkpoint is there and holds what was written."""
    read_state(checkpoint)
    for rank in (0, 1):
        digest, _, content = (checkpoint / "policy" / f"rank{rank}.pt").read_text().partition("\n")
        if hashlib.sha256(content.encode()).hexdigest() != digest:
            return False
    return True


def save(root: Path, step: int, keep: int = 2, content: str | None = None) -> Path:
    return save_checkpoint(root, step, workers(content or f"weights of step {step}"), {"step": step}, keep)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_a_checkpoint_holds_the_workers_files_and_the_state(tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoints", 12)
    assert path.name == "step_000012"
    assert is_whole(path)
    assert read_state(path) == {"step": 12}
    assert names(tmp_path / "checkpoints") == ["latest", "step_000012"]
    assert (tmp_path / "checkpoints" / "latest").read_text() == "step_000012\n"


def test_only_the_newest_are_kept_by_number_not_by_age(tmp_path: Path) -> None:
    for step in (9, 10, 100, 20):
        save(tmp_path, step, keep=3)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_000010", "step_000020", "step_000100"]


def test_the_newest_complete_one_counts_without_a_pointer(tmp_path: Path) -> None:
    save(tmp_path, 1), save(tmp_path, 2)
    (tmp_path / "latest").unlink()
    assert latest_checkpoint(tmp_path) == tmp_path / "step_000002"
    (tmp_path / "latest").write_text("step_000001\n")  # killed before the pointer was replaced
    assert latest_checkpoint(tmp_path) == tmp_path / "step_000002"


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "not there") is None


def test_unfinished_and_foreign_folders_do_not_count_and_the_next_save_clears_leftovers(tmp_path: Path) -> None:
    save(tmp_path, 1)
    workers()(_made(tmp_path / "step_000002.tmp"))
    (tmp_path / "step_000002.tmp" / "trainer.json").write_text("{}")
    (tmp_path / "latest.tmp").write_text("step_0000")
    _made(tmp_path / "step_000003")  # no state: not written by us
    assert latest_checkpoint(tmp_path) == tmp_path / "step_000001"
    save(tmp_path, 4)
    assert not list(tmp_path.glob("*.tmp"))
    assert latest_checkpoint(tmp_path) == tmp_path / "step_000004"


def test_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    save(tmp_path, 3, content="before"), save(tmp_path, 3, content="after")
    assert is_whole(tmp_path / "step_000003")
    assert "after" in (tmp_path / "step_000003" / "policy" / "rank0.pt").read_text()
    assert names(tmp_path) == ["latest", "step_000003"]


def test_a_state_that_is_no_json_leaves_the_previous_checkpoints(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 2, workers(), {"step": object()}, 2)
    assert names(tmp_path) == ["latest", "step_000001"]


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("rank 1 died"), KeyboardInterrupt()]
)
def test_workers_that_fail_leave_the_previous_checkpoints(tmp_path: Path, failure: BaseException) -> None:
    save(tmp_path, 1)

    def fail(directory: Path) -> None:
        (directory / "half.pt").write_text("half")
        raise failure

    with pytest.raises(type(failure)):
        save_checkpoint(tmp_path, 2, fail, {"step": 2}, 2)
    assert names(tmp_path) == ["latest", "step_000001"]
    assert is_whole(save(tmp_path, 2))


class Killed(BaseException):
    """The process is gone: nothing that would run afterwards runs."""


class Killer:
    """Replaces the system calls of a save; the ``number``-th one and all later ones never happen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.number, self.count = number, 0
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name)))
        monkeypatch.setattr(io, "open", self._wrapped(io.open))

    def _wrapped(self, call: Callable) -> Callable:
        def wrapper(*args: object, **kwargs: object) -> object:
            self.count += 1
            if self.count >= self.number:
                raise Killed
            return call(*args, **kwargs)

        return wrapper


def kills(tmp_path: Path, step: int) -> Iterator[Path]:
    """One root per kill, before the 1st, 2nd, ... system call of saving ``step`` over the steps 1 and 2, until a save comes through."""
    for number in range(1, 200):
        root = tmp_path / f"kill{number}"
        save(root, 1), save(root, 2)
        with pytest.MonkeyPatch.context() as patched:
            killer = Killer(patched, number)
            try:
                save(root, step, content=f"new weights of step {step}")
            except Killed:
                finished = False
            else:
                finished = True
        yield root
        if finished:
            assert killer.count > 15, "the calls of a save are not what is patched here"
            return
    raise AssertionError("a save makes 200 system calls?")


def test_a_kill_before_any_system_call_leaves_a_whole_newest_checkpoint(tmp_path: Path) -> None:
    seen = set()
    for root in kills(tmp_path, 3):
        latest = latest_checkpoint(root)
        assert latest is not None
        for path in checkpoints(root):
            assert is_whole(path), f"{root.name}: {path.name} counts as complete and is not"
        seen.add(latest.name)
        after = save(root, 4)
        assert latest_checkpoint(root) == after
        assert is_whole(after)
        assert len(checkpoints(root)) == 2
        assert not list(root.glob("*.tmp"))
    assert seen == {"step_000002", "step_000003"}


def test_a_kill_while_the_newest_step_is_saved_again_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    for root in kills(tmp_path, 2):
        latest = latest_checkpoint(root)
        assert latest is not None
        assert is_whole(latest), f"{root.name}: {latest.name} is not whole"
        assert is_whole(save(root, 2))


SAVES_FOR_EVER = """
import hashlib, sys
from pathlib import Path
from openrlhf_ext.checkpoint import latest_checkpoint, read_state, save_checkpoint

root = Path(sys.argv[1])
latest = latest_checkpoint(root)
step = read_state(latest)["step"] if latest else 0
print("ready", flush=True)
while True:
    step += 1
    content = str(step) * 200_000
    def write(directory):
        (directory / "policy").mkdir()
        for rank in (0, 1):
            digest = hashlib.sha256(content.encode()).hexdigest()
            (directory / "policy" / f"rank{rank}.pt").write_text(digest + chr(10) + content)
    save_checkpoint(root, step, write, {"step": step}, 2)
"""


def test_sigkill_at_random_moments_of_endless_saves(tmp_path: Path) -> None:
    rng, reached, kills = random.Random(7), 0, 0
    while kills < 10 or (reached <= 3 and kills < 60):  # a busy machine saves little before it is killed
        kills += 1
        child = subprocess.Popen(
            [sys.executable, "-c", SAVES_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.0, 0.25))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        latest = latest_checkpoint(tmp_path)
        if latest is None:
            assert reached == 0
            continue
        assert is_whole(latest)
        step = read_state(latest)["step"]
        assert step >= reached, "a kill lost a checkpoint that was there"
        reached = step
    assert reached > 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = _made(tmp_path / "small")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_fails_the_save_and_leaves_the_previous_checkpoint(small_disk: Path) -> None:
    root = small_disk / "checkpoints"
    save(root, 1, content="x" * 200_000)
    with pytest.raises(OSError, match="No space left") as failure:
        save(root, 2, content="x" * 500_000)
    assert failure.value.errno == errno.ENOSPC
    assert names(root) == ["latest", "step_000001"]
    assert is_whole(root / "step_000001")
    assert is_whole(save(root, 3, content="x" * 100_000))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_the_state_is_readable_by_a_person(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    assert json.loads((path / "trainer.json").read_text()) == {"step": 1}


@pytest.mark.parametrize(("umask", "granted"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_of_a_model_follow_the_umask(tmp_path: Path, umask: int, granted: int) -> None:
    before = os.umask(umask)
    try:
        folder = tmp_path / "model"
        folder.mkdir(mode=0o700)  # what the folder itself grants is no matter
        for name, mode in (("model.safetensors", 0o600), ("config.json", 0o644)):
            (folder / name).write_text("x")
            (folder / name).chmod(mode)
        (folder / "more").mkdir(mode=0o755)
        follow_umask(folder)
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()} == {
        "model.safetensors": granted,
        "config.json": granted,
    }
    assert not list(folder.glob(".umask*"))
    assert (folder / "more").stat().st_mode & 0o111, "folders stay open"
