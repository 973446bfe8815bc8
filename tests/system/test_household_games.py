"""Released ALFWorld games with the optional extra: recorded walks win as recorded, every game is played once by the scripted player."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_ext.tasks.household.engine import engine_faults

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(engine_faults()), reason="the extra alfworld is not installed (make alfworld)"),
]
ROOT = Path(__file__).resolve().parents[2]


def test_recorded_walks_win_and_every_game_can_be_played(shared_data: Path, tmp_path: Path) -> None:
    games = shared_data / "alfworld" / "games"
    if not games.is_dir():
        pytest.skip("no ALFWorld games in the reference data")
    words = ["--games", games, "--walks", games.parent / "expert_trajectories.jsonl", "--out", tmp_path / "log.md"]
    program = [sys.executable, ROOT / "benchmarks" / "household_games.py", *words]
    done = subprocess.run(program, capture_output=True, text=True, timeout=1700)
    assert done.returncode == 0, done.stdout + done.stderr
    log = (tmp_path / "log.md").read_text()
    assert "12 of 12 won" in log.splitlines()[0]
    rows = [
        line for line in log.splitlines() if line.startswith("| ") and ("| won |" in line or "| time-out |" in line)
    ]
    assert len(rows) == 24
    assert (
        sum("| won |" in row for row in rows) >= 12
    )  # the player is simple, and forty turns are few in a large kitchen
