"""What scripts under examples/scripts pass on where the task decides; that their commands work is shown in test_docs.py."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from openrlhf_ext.cli import main

ROOT = Path(__file__).resolve().parents[2]


def words_of(script: str, task: str, folder: Path) -> list[str]:
    """The words with which the script calls openrlhf-ext last."""
    shutil.copytree(ROOT / "examples/scripts", folder / "examples/scripts")
    program = folder / ".venv/bin/openrlhf-ext"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > words\n')
    program.chmod(0o755)
    subprocess.run(["bash", f"examples/scripts/{script}.sh", task], cwd=folder, check=True, timeout=60)
    return (folder / "words").read_text().splitlines()


@pytest.mark.parametrize(("task", "plain"), [("gsm8k", False), ("math", True), ("chain", False)])
def test_mathematics_is_evaluated_with_the_prompts_it_was_trained_with(
    task: str, plain: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of("self_explore_evaluate", task, tmp_path)
    assert words[words.index("--suite") + 1] == task
    assert ("--template" in words) == plain, "the suites gsm8k and chain are plain already"
    if plain:
        assert words[words.index("--template") + 1] == "plain"
        assert words[words.index("--max-new-tokens") + 1] == "1024"
    assert main(words) == 2  # there are no models here; but the options are understood
    said = capsys.readouterr().err
    assert "sft/model" in said and "--template" not in said, said
