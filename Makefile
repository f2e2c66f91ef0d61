# `make lab` opens the dashboard, `make notebooks` the course, `make test` checks everything; all
# build .venv on first use.
# PyTorch: pip on Linux installs the CUDA build, which is large but runs without a GPU too. Nothing
# here can choose the smaller CPU build: pip picks it where your own pip settings offer it.

# Left empty, PYTHON becomes the first of these that is new enough.
PYTHON ?=
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11 python3.10
# Not from the environment, where some shells and conda have a HOST of their own.
HOST = 127.0.0.1
PORT ?= 5006

# Every path below is relative, so the checkout may lie in a folder with spaces in its name.
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SETUP := pyproject.toml constraints.txt
# ensurepip is what Debian leaves out of python3 until python3-venv is installed.
NEW_ENOUGH := import ensurepip, sys; sys.exit(sys.version_info < (3, 10))

# .venv counts as made only if its Python runs and it was made for this folder: scripts inside name
# it by its full path, so a copied or moved .venv would run another checkout.
ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && cat .venv/.made 2>/dev/null),$(CURDIR))
.PHONY: .venv/.made
endif

# Run as root, as in many containers, JupyterLab wants to be told that this is meant.
ROOT_TOO := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help lab notebooks outputs docs test tests test-all chromium axe lint format bench
help:
	@echo 'make lab       open the dashboard on http://$(HOST):$(PORT) (HOST=... PORT=... to change)'
	@echo 'make notebooks open the course in JupyterLab on http://$(HOST):$(PORT)'
	@echo 'make outputs   run the course and write its outputs back'
	@echo 'make docs      build the documentation into docs/_build'
	@echo 'make test      lint, types and all tests but the slow ones'
	@echo 'make test-all  the slow tests too'
	@echo 'make lint      ruff, mypy and the layers of imports only'
	@echo 'make format    let ruff fix and format the code'
	@echo 'make bench     run every benchmark in ten minutes (FULL=--full: in hours)'
	@echo 'PYTHON=...     the Python (3.10 or newer) to build .venv with'

lab: .venv/.lab
	exec $(BIN)/m2n2lab serve --host "$(HOST)" --port "$(PORT)"

notebooks: .venv/.notebooks
	exec $(BIN)/jupyter-lab --ip="$(HOST)" --port="$(PORT)" $(ROOT_TOO) notebooks

outputs: chromium
	PYTHONPATH=benchmarks $(BIN)/python .ci/outputs.py

# No warning, so no dead link. The course and its outputs are part of it, and are not run.
docs: .venv/.docs
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html
	@echo 'open docs/_build/html/index.html'

# Tests of the page mostly wait, so three at a time keep two cores busy; what a file's tests share
# is made once. In the order in which they are collected: long files first.
PYTEST = $(BIN)/python -m pytest --numprocesses 3 --dist loadfile \
	--no-loadscope-reorder

# Lint and types are checked beside the tests: they keep one core busy for a minute.
test: chromium axe
	@$(MAKE) --no-print-directory --jobs=2 lint tests

tests: .venv/.test
	$(PYTEST)

test-all: chromium axe lint
	$(PYTEST) -m ""

chromium: .venv/.test
	@sh .ci/chromium.sh

axe:
	@sh .ci/axe.sh

lint: .venv/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# FULL=--full for the long version: hours.
FULL =
bench: chromium
	$(BIN)/python benchmarks/findings.py $(FULL)

# Stamps are written last, so an install that was cut short is taken up again.
.venv/.test: .venv/.lab $(SETUP)
	@echo 'Installing what the tests need beside it.'
	$(PIP) install -c constraints.txt -e '.[harness,llm,images,ray,notebooks,docs,test]'
	@touch $@

.venv/.docs: .venv/.lab $(SETUP)
	@echo 'Installing what builds the documentation.'
	$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@

# The course needs no internet, so this JupyterLab neither looks for news of itself nor asks
# whether to.
.venv/.notebooks: .venv/.lab $(SETUP)
	$(BIN)/jupyter labextension disable --level=sys_prefix \
		"@jupyterlab/apputils-extension:announcements"
	@touch $@

# All that the page, the models of the zoo and the course need. Ray, lm-eval and the desktop window are
# extras, and named where they are wanted.
.venv/.lab: .venv/.made $(SETUP)
	@echo 'Installing the lab into .venv, with language and picture models and the course: PyTorch and' \
		'some 150 packages, once, and most of that time is downloads.'
	$(PIP) install -c constraints.txt -e '.[llm,images,notebooks]'
	@touch $@

# A .venv made by hand stays, if it is this folder's own and its Python is new enough.
.venv/.made:
	@set -e; here=$$(pwd -P); made=; found=; \
	case "$$($(BIN)/pip --version 2>/dev/null)" in \
	*" from $$here/.venv/"*) ! $(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null || made=yes ;; \
	esac; \
	if [ -z "$$made" ]; then \
		[ ! -L .venv ] || { \
			echo "A .venv of this checkout's own is needed, but .venv is a link, behind which another" \
				"one would be deleted: remove the link." >&2; \
			exit 1; \
		}; \
		for python in $(if $(PYTHON),"$(PYTHON)",$(PYTHONS)); do \
			! "$$python" -c '$(NEW_ENOUGH)' 2>/dev/null || { found=$$python; break; }; \
		done; \
		[ -n "$$found" ] || { \
			echo "m2n2lab needs Python 3.10 or newer with its venv module, and none answers to" \
				"$(or $(PYTHON),$(PYTHONS)): install it, or name one with PYTHON=/path/to/python." >&2; \
			exit 1; \
		}; \
		echo "Making .venv: $$found -m venv --clear .venv"; \
		"$$found" -m venv --clear .venv; \
	fi; \
	printf '%s\n' "$$here" > $@
