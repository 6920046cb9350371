# make demo and make test are all that a newcomer needs; both set up what they use.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-faults test-matrix lint format docs build-image run clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## an environment in .venv with everything

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}. Give one with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup ## train and test on drawn data, about three minutes on two cores
	$(BIN)/reidlit train score_untrained=true

PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: setup ## the tests that a change needs, on up to four cores
	$(PYTEST) -m "not slow"

test-all: setup ## all tests
	$(PYTEST)

test-faults: setup ## kills, full disks, hostile files and fuzzed names, for longer than in test-all
	REIDLIT_FAULTS=1 $(BIN)/python -m pytest tests/faults

test-matrix: setup ## the built package on Python 3.11 to 3.13, with the newest and the oldest dependencies
	$(BIN)/python .ci/matrix.py

lint: setup ## ruff, mypy and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell src tests conf benchmarks README.md CHANGELOG.md

format: setup ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## the documentation as a site, in site/
	$(BIN)/mkdocs build

# make run command="train data=market1501" data=/where/datasets/lie
data ?= $(CURDIR)/data
runs ?= $(CURDIR)/runs
gpus ?= --gpus all
command ?= --help

build-image: ## a container image with reidlit
	docker build --tag reidlit .

run: ## a command in that image: make run command="train data=market1501"; gpus= without a GPU
	mkdir -p $(data) $(runs)
	docker run --rm --ipc host $(gpus) --user $$(id -u):$$(id -g) --env HOME=/tmp \
		--volume $(data):/data --volume $(runs):/home/reidlit/runs reidlit $(command)

clean: ## remove what was built and run, keeping data/
	rm -rf $(VENV) build dist runs .mypy_cache .pytest_cache .ruff_cache
