# Sparsight's commands. Each one first brings .venv up to date with the pins.
#   PYTHON=python3.12   the Python that makes .venv (3.11 or newer)
#   ARGS="-k merge"     extra arguments for pytest or for the demo

PYTHON ?= python3
ARGS ?=
TORCH := torch==2.13.0
PINS := requirements/pins.txt
VENV := .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin/python -m
INSTALL := $(RUN) pip install -qq --no-input --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with the pinned dependencies (again only when the pins change)
	@:

demo: setup ## Ask the embedded model about a bundled clip
	@$(RUN) sparsight.cli.demo $(ARGS)

test: setup ## Run the tests, in two processes, without network
	@OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --dist loadfile $(ARGS)

lint: setup ## Check style and format
	@$(RUN) ruff check
	@$(RUN) ruff format --check

types: setup ## Check types
	@$(RUN) mypy sparsight

format: setup ## Fix what can be fixed, then format
	@$(RUN) ruff check --fix-only
	@$(RUN) ruff format

clean: ## Remove caches and build output (.venv stays)
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

# The stamp is dated at the start and put in place at the end: an interrupted setup leaves none,
# and pins edited during a setup are newer than it.
$(READY): Makefile pyproject.toml $(PINS)
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'setup: $(PYTHON) is not Python 3.11 or newer; name one that is: make setup PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo 'setup: $(PYTHON) has no venv module; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@$(VENV)/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'setup: making $(VENV)' && $(PYTHON) -m venv --clear $(VENV); }
	@touch $@.started
	@echo 'setup: installing $(TORCH) (the first time this is a large download)'
	@$(INSTALL) --constraint $(PINS) $(TORCH)
	@echo 'setup: installing $(PINS)'
	@$(INSTALL) --requirement $(PINS)
	@echo 'setup: installing sparsight itself, editable'
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@mv $@.started $@
	@echo 'setup: ready'
