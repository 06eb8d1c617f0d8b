# Two commands do all the set-up on a fresh machine: `make simulate` and `make test`.
# Other Python: make simulate PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Tests run a file at a time in each of two processes, each of which holds TensorFlow; make test PARALLEL= has one alone.
PARALLEL ?= --numprocesses 2 --dist loadfile

.PHONY: help install simulate federation test test-deployment test-fast check lock flower-config clean

help:           ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

# A folder with a folder a site for `make federation`; without one, the demo images.
DATA ?= $(wildcard ../shared/data/pacs)

install: .venv/installed           ## install into .venv, nothing more

simulate: .venv/installed          ## install, then run a federation on the bundled images
	$(BIN)/fedtransfer simulate

federation: .venv/installed        ## a real federation on this machine: four sites, TLS, keys, separate processes
	$(BIN)/fedtransfer simulate --engine deployment --rounds 5 $(if $(DATA),--data $(DATA) --partition natural,--sites 4)

test: .venv/installed-dev          ## install with the test tools, then run every test but those of real deployments
	$(BIN)/python -m pytest -m "not deployment" $(PARALLEL)

test-deployment: .venv/installed-dev ## coordinators and sites as real processes, killed, cut off, attacked (15 minutes)
	$(BIN)/python -m pytest -m deployment $(PARALLEL)

test-fast: .venv/installed-dev     ## the tests that start no whole run and no process
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

check: .venv/installed-dev         ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: .venv/installed-dev          ## refresh constraints.txt to the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --quiet --universal --upgrade --all-extras --no-header --no-annotate pyproject.toml --output-file constraints.txt

flower-config: .venv/installed-dev ## write [tool.flwr.app.config] in pyproject.toml from common/config.py
	$(BIN)/python -m common.flower_config

clean:          ## remove the environment and everything that the tools left
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python %d.%d: fedtransfer needs 3.11, 3.12 or 3.13; try: make simulate PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing fedtransfer and what it needs into .venv (about 1.5 GB, a minute or two the first time) ..."
	$(INSTALL) --editable .
	@touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing fedtransfer with its test tools into .venv (about 1.5 GB, a minute or two the first time) ..."
	$(INSTALL) --editable '.[dev]'
	@touch $@ .venv/installed
