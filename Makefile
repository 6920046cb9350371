# Start with `make demo` and `make test`; both set up the environment they need.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-faults test-matrix lint format docs build-image run clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## create .venv with every dependency

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python {sys.version.split()[0]} is too old: reidlit requires 3.11 or newer. Choose one with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup ## train and test on synthetic data, about three minutes on two cores
	$(BIN)/reidlit train score_untrained=true

PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: setup ## run the fast tests on up to four cores
	$(PYTEST) -m "not slow"

test-all: setup ## run every test
	$(PYTEST)

test-faults: setup ## inject kills, full disks and hostile files, and fuzz names, for longer than test-all
	REIDLIT_FAULTS=1 $(BIN)/python -m pytest tests/faults

test-matrix: setup ## test the built package on Python 3.11 to 3.13 with the newest and the oldest dependencies
	$(BIN)/python .ci/matrix.py

lint: setup ## run ruff, mypy and the spell checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell src tests conf benchmarks README.md CHANGELOG.md

format: setup ## format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## build the documentation site in site/
	$(BIN)/mkdocs build

# make run command="train data=market1501" data=/path/to/datasets
data ?= $(CURDIR)/data
runs ?= $(CURDIR)/runs
gpus ?= --gpus all
command ?= --help

build-image: ## build a container image with reidlit
	docker build --tag reidlit .

run: ## run a command in that image: make run command="train data=market1501"; without a GPU: gpus=
	mkdir -p $(data) $(runs)
	docker run --rm --ipc host $(gpus) --user $$(id -u):$$(id -g) --env HOME=/tmp \
		--volume $(data):/data --volume $(runs):/home/reidlit/runs reidlit $(command)

clean: ## remove the environment, builds, runs and caches; keep data/
	rm -rf $(VENV) build dist runs .mypy_cache .pytest_cache .ruff_cache
