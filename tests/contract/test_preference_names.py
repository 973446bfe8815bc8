"""What preference methods put in the place of OpenRLHF's names: the names are those that its programs use, and the replacements fit their calls."""

from __future__ import annotations

import ast
import inspect

import pytest

from openrlhf_ext.config.load import load
from openrlhf_ext.methods import METHODS
from openrlhf_ext.upstream.actors import imported
from openrlhf_ext.upstream.cli import PROGRAMS, source_path


def calls_of(program: str) -> dict[str, list[ast.Call]]:
    """Name -> the calls of it in the program's ``train``."""
    tree = ast.parse(source_path(f"cli.{PROGRAMS[program]}").read_text(encoding="utf-8"))
    found: dict[str, list[ast.Call]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.setdefault(node.func.id, []).append(node)
    return found


@pytest.mark.parametrize("method", ["dpo", "self-explore", "kto", "rm"])
@pytest.mark.parametrize("reference", ["model", "cached"])
def test_every_replacement_takes_the_calls_of_the_program(method: str, reference: str) -> None:
    resolved = load(method, None, [("preference.reference", reference)])
    recipe = METHODS[method]
    names = recipe.names(resolved)
    assert ("Actor" in names) == (reference == "cached" and method != "rm")
    calls = calls_of(recipe.program)
    for name, path in names.items():
        assert calls[name], f"train of {recipe.program} no longer calls {name}"
        signature = inspect.signature(imported(path))
        for call in calls[name]:
            given = [object()] * len(call.args), {str(word.arg): object() for word in call.keywords}
            signature.bind(*given[0], **given[1])


def test_the_reference_is_told_from_the_policy_by_loras_options() -> None:
    """`policy_only` relies on it: the program builds the policy with `lora_rank` and the reference without."""
    policy, reference = calls_of("dpo")["Actor"]
    words = [{word.arg for word in call.keywords} for call in (policy, reference)]
    assert "lora_rank" in words[0] and "lora_rank" not in words[1]
