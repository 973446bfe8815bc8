"""A claim's script in short, on the real stack: every arm trains from one start model, and the tables compare them; `make test-all` only.

It is not the claim: a handful of updates shows nothing. Cost: about 12 minutes on 2 idle cores.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.system.toy import environment, rows_of

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1500)]

ROOT = Path(__file__).resolve().parents[2]
SHORT = {
    "SEEDS": "1",
    "MODES": "plain staged mixed adaptive",
    "STEPS": "3",
    "STAGES": "3",
    "TEST": "16",
    "SFT_ROWS": "256",
    "SFT_EPOCHS": "1",
    "RL_STEPS": "3",
    "BATCH": "64",
}

SHORT_OFFLINE = {
    "SEEDS": "1",
    "STEPS": "3",
    "TEST": "64",
    "SLIPS": "0.5",
    "SFT_EPOCHS": "3",
    "PROBLEMS": "200",
    "GAME": "0",
    "BEAMS": "1 3",
}
"""The start model must get some chains right and some wrong, so that its training is hardly shorter than the claim's."""


def run(claim: list[str], variables: dict[str, str], timeout: float = 1400) -> subprocess.CompletedProcess[str]:
    """The script's output; it must succeed."""
    done = subprocess.run(
        claim, cwd=ROOT, env=environment() | variables, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done


def test_the_reverse_curriculums_claim_in_short(tmp_path: Path) -> None:
    claim = ["bash", "examples/claims/reverse_curriculum.sh", str(tmp_path / "claim")]
    done = run(claim, SHORT)
    for mode in SHORT["MODES"].split():
        rows = rows_of(tmp_path / "claim" / f"{mode}-1")
        assert rows[-1]["rollout/samples_total"] == 3 * 64, "equal rollouts"
        assert rows[-1]["eval/chain/count"] == 16
        assert rows[0]["eval/chain/accuracy"] == rows_of(tmp_path / "claim" / "plain-1")[0]["eval/chain/accuracy"]
        assert f"| {mode} | 1 | " in done.stdout
    assert "differ in no setting; 192 rollouts each." in done.stdout
    assert "| against plain, same seed |" in done.stdout
    assert (tmp_path / "claim" / "report.html").stat().st_size > 0
    before = (tmp_path / "claim" / "claim.jobs").read_text()
    run(claim, SHORT, timeout=600)
    assert "train" in before and "train" not in (tmp_path / "claim" / "claim.jobs").read_text(), "finished runs stay"


@pytest.mark.parametrize(
    ("script", "arms"),
    [
        ("oreo", ("start model", "rejection sampling", "DPO", "KTO", "OREO, token", "OREO, step")),
        ("self_explore", ("SFT", "RFT", "DPO on outcome pairs", "DPO on step pairs")),
    ],
)
def test_an_offline_methods_claim_in_short(script: str, arms: tuple[str, ...], tmp_path: Path) -> None:
    claim = ["bash", f"examples/claims/{script}.sh", str(tmp_path / "claim")]
    done = run(claim, SHORT_OFFLINE)
    again = run(claim, SHORT_OFFLINE, timeout=600)
    assert "train" not in (tmp_path / "claim" / "claim.jobs").read_text(), "finished runs stay"
    for arm in arms:
        row = f"| {arm} | 1 | "
        assert row in done.stdout and row in again.stdout, f"no row of {arm}"
