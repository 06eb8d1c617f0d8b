# Two commands do all the set-up on a fresh machine: `make simulate` and `make test`.
# Other Python: make simulate PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Two processes share the tests, a file at a time, in the order of tests/conftest.py; each holds TensorFlow.
# make test PARALLEL= has one alone, with its output at once. Where one is killed the tests end: xdist would wait for ever.
PARALLEL ?= --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
PYTEST := $(BIN)/python -m pytest
unexport PYTHONDONTWRITEBYTECODE  # where it is set, every process would compile all sources and all tests anew

.PHONY: help install simulate federation test test-fast test-all approve check lock audit-dependencies flower-config clean

help:           ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

# A folder with a folder a site for `make federation`; without one, the demo images.
DATA ?= $(wildcard ../shared/data/pacs)

install: .venv/installed           ## install into .venv, nothing more

simulate: .venv/installed          ## install, then run a federation on the bundled images
	$(BIN)/fedtransfer simulate

federation: .venv/installed        ## a real federation on this machine: four sites, TLS, keys, separate processes
	$(BIN)/fedtransfer simulate --engine deployment --rounds 5 $(if $(DATA),--data $(DATA) --partition natural,--sites 4)

test: .venv/installed-dev          ## install with the test tools, then test every module, and one run of each kind (5 minutes)
	$(PYTEST) -m "not full" $(PARALLEL)

test-fast: .venv/installed-dev     ## the tests that start no process and no whole run (a minute)
	$(PYTEST) -m "not process and not run and not deployment and not full" $(PARALLEL) $(if $(PARALLEL),--dist worksteal)

test-all: .venv/installed-dev      ## every test, with all examples of each (20 minutes)
	FEDTRANSFER_EXAMPLES=all $(PYTEST) $(PARALLEL)

approve: .venv/installed-dev       ## write the approved texts of the report's pages anew; look at the difference before you commit it
	$(BIN)/python tests/approved/update.py

# For mypy: the package as it is installed, made of links to the folders.
.types: Makefile $(wildcard fedtransfer/*.py)
	rm -rf .types
	mkdir -p .types/fedtransfer
	ln -sfn $(addprefix ../../,$(wildcard fedtransfer/*.py) fedtransfer/py.typed client common server simulations) .types/fedtransfer/
	touch .types

check: .venv/installed-dev .types  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: .venv/installed-dev          ## refresh constraints.txt and requirements.lock to the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --quiet --universal --upgrade --all-extras --no-header --no-annotate pyproject.toml --output-file constraints.txt
	echo '# Every package that fedtransfer needs, with the hashes of its files. Written by `make lock`; used by `make install`.' > requirements.lock
	$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes --constraint constraints.txt pyproject.toml >> requirements.lock

audit-dependencies: .venv/installed-dev ## an inventory of the installed packages (CycloneDX) in build/, and their known flaws
	$(BIN)/python tools/audit_dependencies.py

flower-config: .venv/installed-dev ## write [tool.flwr.app.config] in pyproject.toml from common/config/config.py
	$(BIN)/python tools/flower_config.py

clean:          ## remove the environment and everything that the tools left
	rm -rf .venv .types build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python %d.%d: fedtransfer needs 3.11, 3.12 or 3.13; try: make simulate PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml requirements.lock
	@echo "Installing fedtransfer and what it needs into .venv (about 2 GB, a minute or two the first time) ..."
	$(INSTALL) --require-hashes --requirement requirements.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing fedtransfer with its test tools into .venv (about 2.5 GB, a minute or two the first time) ..."
	$(INSTALL) --editable '.[dev]'
	@touch $@ .venv/installed
