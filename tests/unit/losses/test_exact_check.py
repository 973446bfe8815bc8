"""The public check of a loss: passes ours over seeds, sizes and levels, and fails a loss that reads the values one state off."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from openrlhf_ext.losses import soft_bellman
from openrlhf_ext.losses.exact_check import check_loss, main


def shifted(values, log_ratios, rewards, is_action, is_state, beta):
    """The wrong loss: every state's value read at its neighbour."""
    return soft_bellman.policy_residual(values.roll(1, dims=1), log_ratios, rewards, is_action, is_state, beta)


def test_ours_reaches_the_optimum_at_every_level() -> None:
    cases = list(check_loss(seeds=(0, 5), horizons=(2, 3), branchings=(2,), updates=800, beta=0.3))
    assert [(c.seed, c.horizon, c.level) for c in cases[:4]] == [
        (0, 2, "token"),
        (0, 2, "step"),
        (0, 2, "response"),
        (0, 3, "token"),
    ]
    assert len(cases) == 12 and all(case.within(1e-3) for case in cases)


def test_a_shifted_index_is_caught() -> None:
    (case,) = check_loss(seeds=(0,), horizons=(3,), levels=("token",), updates=800, beta=0.3, policy_residual=shifted)
    assert not case.within(1e-3) and case.fit.policy_error > 0.1


def test_a_loss_of_ones_own_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_losses.py").write_text(
        "from openrlhf_ext.losses import soft_bellman\n"
        "ours = soft_bellman.policy_residual\n"
        "def wrong(values, ratios, rewards, *rest):\n    return ours(values, ratios, 1 - rewards, *rest)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    words = [
        "--seed",
        "1",
        "--horizon",
        "2",
        "--branching",
        "2",
        "--level",
        "token",
        "--beta",
        "0.3",
        "--updates",
        "600",
    ]
    assert main([*words, "--policy-residual", "my_losses:ours"]) == 0
    assert capsys.readouterr().out.endswith("ok\n")
    assert main([*words, "--policy-residual", "my_losses:wrong"]) == 1
    assert capsys.readouterr().out.endswith("MISSED\n")
    sys.modules.pop("my_losses", None)
