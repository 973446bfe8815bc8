"""All that programs can import. They can open no file, so what is not loaded here does not exist for them, on any machine."""

import importlib
import os
import sys
from collections.abc import Sequence

MODULES = (
    "math",
    "cmath",
    "decimal",
    "fractions",
    "statistics",
    "random",
    "itertools",
    "functools",
    "operator",
    "collections",
    "collections.abc",
    "datetime",
    "calendar",
    "time",
    "re",
    "string",
    "heapq",
    "bisect",
    "copy",
    "typing",
    "dataclasses",
    "enum",
    "json",
    "numbers",
    "textwrap",
    "traceback",
    "mpmath",
    "sympy",
    "sympy.abc",
    "sympy.assumptions.wrapper",
    "sympy.codegen.ast",
    "sympy.combinatorics",
    "sympy.integrals.heurisch",
    "sympy.integrals.manualintegrate",
    "sympy.integrals.risch",
    "sympy.parsing.sympy_parser",
    "sympy.physics.matrices",
    "sympy.physics.units",
    "sympy.sets.handlers.functions",
    "sympy.sets.handlers.issubset",
    "sympy.sets.setexpr",
    "sympy.solvers.diophantine",
    "sympy.solvers.inequalities",
    "sympy.stats",
    "sympy.tensor.tensor",
)


def load(modules: Sequence[str]) -> None:
    """Imports the modules and closes the way to all others."""
    for name in modules:
        importlib.import_module(name)
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    os.environ.clear()
