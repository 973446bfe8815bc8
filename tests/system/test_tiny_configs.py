"""Two real steps, or a few more, of every `examples/configs/*_tiny.yaml`, after the commands that its own comment gives; `make test-all` only.

A new config is found by its name. Its comment must end with its `train` command, and the commands before it must make all that it reads
but for the files of `DOWNLOADS`. Configs share a folder, so a command that several comments give runs once. Cost: minutes for each method.
"""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_ext.config.load import load
from openrlhf_ext.config.problem import ConfigError
from openrlhf_ext.record.run_dir import read_events
from tests.system.toy import environment, rows_of, write_rows

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "examples/configs").glob("*_tiny.yaml"))


def word_problems(count: int) -> list[dict[str, object]]:
    """Rows in GSM8K's form."""
    return [
        {
            "question": f"Ann has {i} pens and buys 2 boxes of 3. How many pens?",
            "answer": f"She buys 2*3 = <<2*3=6>>6 pens.\nNow she has {i}+6 = <<{i}+6={i + 6}>>{i + 6} pens.\n#### {i + 6}",
        }
        for i in range(count)
    ]


DOWNLOADS = {"data/gsm8k/train.jsonl": word_problems(400), "data/gsm8k/test.jsonl": word_problems(20)}
"""Stand-ins for what a reader has to fetch."""


class Reader:
    """Follows comments in a folder that looks like a checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.done = folder, set[str]()
        for name in ("examples", "evaluation"):
            (folder / name).symlink_to(ROOT / name)
        for name, rows in DOWNLOADS.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_rows(folder / name, rows)

    def follow(self, lines: list[str], name: str) -> None:
        """Run the lines that have not run yet, as jobs of one process."""
        left = [line for line in lines if line not in self.done]
        jobs, log = self.folder / f"{name}.jobs", self.folder / f"{name}.log"
        jobs.write_text("\n".join(left))
        words = [sys.executable, "-m", "openrlhf_ext", "jobs", str(jobs)]
        variables = environment(PYTHONPATH=str(ROOT))
        with open(log, "w") as out:
            code = subprocess.run(
                words, stdout=out, stderr=subprocess.STDOUT, env=variables, cwd=self.folder, timeout=1700
            ).returncode
        said = log.read_text(errors="replace")
        self.done.update(left[: said.count(": exit code 0 after ")])
        assert code == 0, said[-6000:]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("tiny"))


def commands_in(config: str) -> list[str]:
    """The command lines of this program in a config's comment, without its name."""
    text = "\n".join(line[1:].strip() for line in (ROOT / config).read_text().splitlines() if line.startswith("#"))
    lines = text.replace("\\\n", " ").splitlines()
    return [line.removeprefix("openrlhf-ext ") for line in lines if line.startswith("openrlhf-ext ")]


def two_steps(method: str, config: str) -> list[str]:
    """Words for a run of two updates or a few more: by the method's own key where it has one, else two passes over two batches, of which
    pairs that are too few or too long may leave one."""
    key = f"{method.replace('-', '_')}.max_steps"
    try:
        load(method, str(ROOT / config), [(key, "2")])
    except ConfigError:
        rows = 2 * load(method, str(ROOT / config), []).whole("train.batch_size")
        return ["--data.max_samples", str(rows), "--train.max_epochs", "2"]
    return [f"--{key}", "2"]


def test_there_are_tiny_configs() -> None:
    assert {name.split("/")[-1].split("_")[0] for name in CONFIGS} >= {"grpo", "oreo", "reverse", "sft"}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda name: Path(name).stem)
def test_two_steps_after_the_commands_of_the_comment(config: str, reader: Reader) -> None:
    lines = commands_in(config)
    own = [i for i, line in enumerate(lines) if line.startswith("train ") and config in line]
    assert own, (
        f"the comment of {config} must give the commands that make its data, then: openrlhf-ext train METHOD --config {config}"
    )
    *before, last = lines[: own[0] + 1]
    method, run = last.split()[1], f"runs/two-steps/{Path(config).stem}"
    short = [*two_steps(method, config), "--run.dir", run, "--run.tensorboard", "false"]
    reader.follow([*before, f"{last} {shlex.join(short)}"], Path(config).stem)

    directory = reader.folder / run
    losses = {
        row["step"]: [float(value) for key, value in row.items() if key.startswith("train/") and "loss" in key]
        for row in rows_of(directory)
    }
    trained = [step for step, found in losses.items() if found]
    assert trained[:2] == [1, 2] and (trained == [1, 2] or "--data.max_samples" in short), trained
    assert all(math.isfinite(loss) for found in losses.values() for loss in found)
    assert read_events(directory)[-1]["kind"] == "finish"
    assert json.loads((directory / "model/config.json").read_text()) and (directory / "report.html").stat().st_size
