"""The shipped configs of preference training are accepted and hold the papers' numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from openrlhf_ext.config.check import check, errors
from openrlhf_ext.config.load import load

CONFIGS = Path(__file__).resolve().parents[2] / "examples" / "configs"
METHODS = {"dpo": "dpo", "kto": "kto", "rm": "rm", "self_explore": "self-explore"}
FILES = sorted(p.name for name in METHODS for p in CONFIGS.glob(f"{name}_*.yaml") if not p.name.startswith("rm_label"))


def method_of(name: str) -> str:
    return next(method for prefix, method in METHODS.items() if name.startswith(f"{prefix}_"))


def test_every_method_has_a_tiny_config() -> None:
    assert {method_of(name) for name in FILES if name.endswith("_tiny.yaml")} == set(METHODS.values())


@pytest.mark.parametrize("name", FILES)
def test_values_are_accepted(name: str) -> None:
    resolved = load(method_of(name), str(CONFIGS / name), [], local_device="cuda" if "paper" in name else "cpu")
    assert errors(check(resolved)) == []
    assert resolved.upstream_args().data.prompt_key == "prompt"


@pytest.mark.parametrize(("suite", "length"), [("gsm8k", 384), ("math", 1024)])
def test_the_papers_runs_have_the_papers_numbers(suite: str, length: int) -> None:
    resolved = load("self-explore", str(CONFIGS / f"self_explore_{suite}_paper.yaml"), [], local_device="cuda")
    assert resolved.number("adam.lr") == 1e-6 and resolved.whole("data.max_len") == length
    assert (resolved.number("model.beta"), resolved.whole("train.batch_size")) == (0.1, 32)
    assert (resolved.whole("run.ranks_per_node"), resolved.whole("ds.zero_stage")) == (4, 3)
    assert (resolved.self_explore.rejected, resolved.preference.ends) == ("pit", "chosen")
    assert resolved.precision == "bf16"
    slower = [("self_explore.preset", f"{suite}-mistral")]
    assert (
        load("self-explore", str(CONFIGS / f"self_explore_{suite}_paper.yaml"), slower, local_device="cuda").number(
            "adam.lr"
        )
        == 1e-7
    )


def test_a_key_that_is_set_wins_over_the_preset() -> None:
    settings = [("self_explore.preset", "gsm8k-llemma"), ("adam.lr", "3e-6")]
    assert load("self-explore", None, settings).number("adam.lr") == 3e-6
