"""W&B: offline without a key, and a key that is given is in the environment of one process only."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_ext.record.trackers import PLACEHOLDER, enable_wandb, wandb_environment

KEY = "5ec4e7" * 6 + "abcd"


def arguments(key: str | None) -> Namespace:
    return Namespace(logger=Namespace(wandb=Namespace(key=key, project="p")))


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "WANDB_SILENT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_the_run_is_offline_whatever_the_user_is_logged_in_to(
    key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    args = arguments(key)
    environment = enable_wandb(args, tmp_path)
    assert (environment["WANDB_MODE"], environment["WANDB_API_KEY"]) == ("offline", PLACEHOLDER)
    assert environment["WANDB_DIR"] == str(tmp_path)
    assert args.logger.wandb.key == PLACEHOLDER  # OpenRLHF makes no logger without one


def test_a_key_leaves_the_arguments_that_openrlhf_copies_into_the_stored_configuration(tmp_path: Path) -> None:
    args = arguments(KEY)
    environment = enable_wandb(args, tmp_path)
    assert (environment["WANDB_MODE"], environment["WANDB_API_KEY"]) == ("online", KEY)
    assert KEY not in repr(args)
    assert args.logger.wandb.key == PLACEHOLDER


def test_who_asks_for_offline_with_a_key_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert enable_wandb(arguments(KEY), tmp_path)["WANDB_MODE"] == "offline"


def test_the_next_run_of_the_process_finds_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[int] = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(teardown=lambda exit_code: ends.append(exit_code)))
    monkeypatch.setenv("WANDB_MODE", "online")
    with wandb_environment({"WANDB_MODE": "offline", "WANDB_API_KEY": KEY}):
        assert (os.environ["WANDB_MODE"], os.environ["WANDB_API_KEY"]) == ("offline", KEY)
    assert os.environ["WANDB_MODE"] == "online"
    assert "WANDB_API_KEY" not in os.environ
    with pytest.raises(RuntimeError), wandb_environment({"WANDB_MODE": "offline"}):
        raise RuntimeError
    assert os.environ["WANDB_MODE"] == "online"
    with wandb_environment({}):  # a run without W&B does not touch it
        pass
    assert ends == [0, 1]
