# Every command sets up what it needs: a virtual environment in .venv with pinned versions.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 5000
TOLERANCE ?= 0
KILLS ?= 200
SEED ?= 0
LIMIT ?= inf
ROWS ?=
SHORT ?=
PAGES ?=
BIN := $(CURDIR)/.venv/bin
READY := .venv/ready
# Scripts in .venv start with its full path: where the checkout was moved or copied, they would run what lies elsewhere.
MADE := $(shell sed -n '1s|^\#!\(/.*\)/bin/python.*|\1|p' .venv/bin/pip 2>/dev/null)
MOVED := $(if $(MADE),$(if $(filter $(realpath $(MADE)),$(realpath .venv)),,moved))
export PATH := $(BIN):$(PATH)

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-13s %s\n", $$1, $$2}'

setup: $(READY)  ## Make .venv with everything that a study needs, by uv, else by pip

$(READY): pyproject.toml constraints.txt environment.py $(MOVED)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("versus: Python 3.11 or newer is needed, got " + sys.version.split()[0] + "; try make PYTHON=python3.12 ...")'
	test -z "$(MOVED)" -a -x "$(BIN)/pip" || $(PYTHON) -m venv --clear .venv
	"$(BIN)/python" environment.py dev
	touch $@

repro: $(READY)  ## Run the default study: only what changed reruns
	versus launch

verify: $(READY)  ## Rerun the default study in a fresh clone, compare it with the committed results (TOLERANCE=0)
	versus verify --tolerance $(TOLERANCE)

ui: $(READY)  ## Browse the runs in the MLflow UI, on this machine only (PORT=5000)
	versus ui --port $(PORT)

lint: $(READY)  ## Check format, lint and types
	ruff format --check .
	ruff check .
	mypy

test: lint  ## Lint, type check and tests
	@command -v "$${CHROMIUM:-}" chromium chromium-browser google-chrome >/dev/null || echo "versus: the report page is not tested in a browser; install one (Debian, Ubuntu: apt install chromium) or set CHROMIUM"
	OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadfile --no-loadscope-reorder

walk: $(READY)  ## Follow README and docs in a fresh clone, command by command (PAGES="README.md")
	PAGES="$(PAGES)" LIMIT=$(LIMIT) python -m tests.walk

torture: $(READY)  ## Kill a small study at KILLS=200 random moments and check that nothing is lost: torture.json
	KILLS=$(KILLS) SEED=$(SEED) LIMIT=$(LIMIT) python -m tests.torture

bench: $(READY)  ## Measure speed side by side with other ways, in 15 minutes on two idle cores (ROWS="stepping noop", SHORT=1: do they run?)
	SHORT=$(SHORT) python -W ignore -m benchmarks $(ROWS)

bench-gpu: $(READY)  ## The same for what needs a CUDA GPU
	SHORT=$(SHORT) python -W ignore -m benchmarks gpu

docs: $(READY)  ## Build the pages of docs/ into site/, warnings being errors
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "site/index.html; searched where it is served: mkdocs serve"

cluster-test: $(READY)  ## Tests on a real Slurm, PostgreSQL and S3 server, started here (root; Debian)
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,services,slurm]' 'moto[server]'
	python -m pytest -m cluster

format: $(READY)  ## Format the code and mend what the linter can
	ruff format .
	ruff check --fix .

.PHONY: help moved setup repro verify ui lint test walk torture cluster-test bench bench-gpu docs format
