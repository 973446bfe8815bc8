"""Head sizes of vLLM's CPU attention, as preflight states them."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from openrlhf_ext.preflight_model import CPU_HEAD_SIZES


def test_head_sizes_are_those_of_the_installed_vllm():
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("vLLM is not installed")
    source = Path(spec.submodule_search_locations[0], "v1", "attention", "backends", "cpu_attn.py")
    functions = [n for n in ast.walk(ast.parse(source.read_text())) if isinstance(n, ast.FunctionDef)]
    (function,) = [f for f in functions if f.name == "get_supported_head_sizes"]
    (returned,) = [n.value for n in ast.walk(function) if isinstance(n, ast.Return)]
    assert tuple(ast.literal_eval(returned)) == CPU_HEAD_SIZES
