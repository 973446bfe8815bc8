"""OpenRLHF's source still has every name that we use, with the parameters that we know; and we use no other."""

import ast
from pathlib import Path

import pytest

import openrlhf_ext
from openrlhf_ext.upstream import cpu, lean
from openrlhf_ext.upstream.cli import PROGRAMS, source_path
from openrlhf_ext.upstream.surface import SURFACE, TRAIN_BODIES, described, fingerprint, imports_of_openrlhf

PACKAGE = Path(openrlhf_ext.__file__).parent


def tree(module: str) -> ast.Module:
    """The source of an ``openrlhf...`` module, parsed and not imported."""
    path = source_path(module.removeprefix("openrlhf."))
    return ast.parse((path if path.exists() else path.with_suffix("") / "__init__.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", SURFACE)
def test_every_listed_name_is_there_as_we_know_it(module):
    source = tree(module)
    assert {name: described(source, name) for name in SURFACE[module]} == SURFACE[module]


def test_every_import_in_the_package_is_listed():
    for (module, name), file in imports_of_openrlhf(PACKAGE).items():
        listed = name in SURFACE.get(module, {}) or f"{module}.{name}" in SURFACE or (not name and module in SURFACE)
        assert listed, f"{file.relative_to(PACKAGE)} imports {module} {name}: add it to upstream/surface.py"


def test_every_listed_module_is_imported_or_hooked():
    used = {module for module, _ in imports_of_openrlhf(PACKAGE)}
    used |= {f"{module}.{name}" for module, name in imports_of_openrlhf(PACKAGE)}
    used |= set(cpu.HOOKS) | set(lean.HOOKS) | {"openrlhf.utils.utils", "openrlhf.utils.config"}
    used |= {f"openrlhf.cli.{module}" for module in PROGRAMS.values()}
    homes = {"openrlhf.datasets.prompts_dataset"}  # where a re-exported name is defined
    assert set(SURFACE) - used - homes == set()


def test_every_hooked_module_of_openrlhf_is_listed():
    hooked = {name for name in [*cpu.HOOKS, *lean.HOOKS] if name.startswith("openrlhf.")}
    assert hooked - set(SURFACE) == set()


@pytest.mark.parametrize("module", TRAIN_BODIES)
def test_the_programs_do_what_they_did_when_we_read_them(module):
    assert fingerprint(tree(f"openrlhf.cli.{module}"), "train") == TRAIN_BODIES[module]


def test_the_asked_programs_are_the_known_ones():
    assert set(TRAIN_BODIES) == set(PROGRAMS.values())


def test_a_renamed_parameter_a_new_default_and_a_removed_method_show():
    known = ast.parse("class A:\n    def f(self, x: int = 1): ...\nfrom b import c as d")
    assert described(known, "A.f") == "self, x=1"
    assert described(known, "d") == "import"
    assert described(known, "A") == "class"
    assert described(known, "A.g") is None and described(known, "c") is None
    assert described(ast.parse("class A:\n    def f(self, y: int = 1): ..."), "A.f") != "self, x=1"
    assert described(ast.parse("class A:\n    def f(self, x: int = 2): ..."), "A.f") != "self, x=1"


def test_a_fingerprint_sees_code_and_not_comments():
    def of(text: str) -> str:
        return fingerprint(ast.parse(text), "train")

    plain = of("def train(args):\n    return args.x + 1\n")
    assert of('def train(args):\n    """Says."""\n    # why\n    return (args.x +\n 1)\n') == plain
    assert of("def train(args):\n    return args.x + 2\n") != plain
