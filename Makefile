# Every target builds .venv itself: a fresh machine needs Python 3.11 or newer and make.
# `make test PYTHON=python3.12` chooses the interpreter, `make test PYTEST_ARGS="-k payload"` the tests.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
RELEASE_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-all benchmark check docs release-check format clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: $(STAMP)  ## build .venv with lit_fed (editable), the tests' and the checks' tools

# torch goes first and alone: a configured CPU build then counts as installed, where resolving
# everything at once could bring in gigabytes of CUDA packages.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lit_fed needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 …")'
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,dev,docs]'
	touch $@

quickstart: install  ## install, then each client alone, the federation, and all data in one place
	$(BIN)/lit-fed quickstart

test: install  ## install, then the tests and the pages' doctests
	$(BIN)/pytest -n 2 -m "not slow and not benchmark" $(PYTEST_ARGS)

test-all: install  ## the same with the slow tests
	$(BIN)/pytest -n 2 -m "not benchmark" $(PYTEST_ARGS)

benchmark: install  ## time and memory beside a bare PyTorch loop; wants an idle machine
	$(BIN)/pytest -m benchmark -s tests/benchmarks $(PYTEST_ARGS)

check: install  ## lint, formatting, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

docs: install  ## the site, in docs/_build/html; EXECUTE=1 runs its notebooks as well
	$(BIN)/sphinx-build --quiet --jobs 2 --fail-on-warning --keep-going -c docs . docs/_build/html

release-check: install  ## versions, changelog, and the built wheel alone; RELEASE_ARGS=--draft before the heading
	$(BIN)/python tools/release_check.py $(RELEASE_ARGS)

format: install  ## put the formatting right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv and the caches, keep the runs
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist docs/_build docs/api *.egg-info
