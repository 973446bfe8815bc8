# Every target builds the environment first if it is missing. `make help` lists them.
SHELL := /bin/bash
.NOTPARALLEL:
.DEFAULT_GOAL := help
BIN := .venv/bin
# Two files at a time in the order of the folders: the real stack's, which often wait for processes, first, small files last. TEST_WORKERS=0: one by one.
PYTEST := $(BIN)/python -m pytest -n $${TEST_WORKERS:-2} --dist loadfile --no-loadscope-reorder --durations=20 \
	tests/system tests/wiring tests/contract tests/unit
SHELL_SCRIPTS = $$(git ls-files '*.sh') .ci/run

export HF_HUB_OFFLINE ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help setup demo test test-all test-gpu alfworld lint lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## environment only (.venv): the whole stack for a CPU, once per lock file
	@PYTHON="$(PYTHON)" bash scripts/setup.sh

demo: setup  ## train and evaluate a small model on the 24-point game, at most 10 minutes
	@bash examples/demo.sh

test: setup lint  ## lint and the tests, the real stack on a CPU included: half an hour on 2 cores
	$(PYTEST) -m "not slow and not gpu"

test-all: setup alfworld lint  ## the long tests too, and those of the engine of ALFWorld
	$(PYTEST) -m "not gpu"

test-gpu:  ## the tests that need a CUDA device, in the environment of docs/install.md
	python -m pytest tests -m gpu

alfworld: setup  ## the optional engine of ALFWorld, which compiles for some minutes (docs/household.md)
	@$(BIN)/python scripts/missing_pins.py requirements/alfworld.lock > .venv/.alfworld
	@if [ -s .venv/.alfworld ]; then unset PYTHONDONTWRITEBYTECODE; $(BIN)/python -m pip install -q --no-deps -r .venv/.alfworld; fi

lint: setup  ## ruff, mypy, shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check -q .
	$(BIN)/mypy
	$(BIN)/shellcheck $(SHELL_SCRIPTS)

lock: setup  ## resolve requirements/cpu.in into cpu.lock, keeping pins that still fit (UPGRADE=1: the newest)
	UV_FIND_LINKS="$${UV_FIND_LINKS:-$${PIP_FIND_LINKS:-}}" $(BIN)/uv pip compile -q requirements/cpu.in -o requirements/cpu.lock \
		--excludes requirements/cpu.excludes --python-version 3.11 --no-header --annotation-style line $(if $(UPGRADE),--upgrade)

clean:  ## caches and build leftovers; keeps .venv and runs/
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find openrlhf_ext tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
