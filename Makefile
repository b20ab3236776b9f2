# Everything runs in .venv, which needs no activation. PYTHON names the interpreter that .venv is made with; LOCK=llm
# adds vLLM, and .venv keeps it from then on; another name is that of a lock of requirements/.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

BIN := .venv/bin
export PYTHON ?= python3
# What runs here asks no hub for models and reports to nobody.
export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help
help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /|/' | column -t -s '|'

.PHONY: install
install: ## install the locked packages and coldray into .venv
	@scripts/install $(LOCK)

.PHONY: quickstart
quickstart: install ## from the MovieLens-100k ratings to a table of results
	@scripts/quickstart

.PHONY: quickstart-graph
quickstart-graph: ## from the MovieLens-100k films to a knowledge graph, with a small language model on vLLM
	@scripts/install llm
	@scripts/quickstart-graph

.PHONY: quickstart-compare
quickstart-compare: install ## every method of the papers on films of MovieLens-100k, with a small language model on vLLM
	@scripts/install llm
	@scripts/quickstart-compare

.PHONY: quickstart-serve
quickstart-serve: quickstart-graph ## recommendations from that graph over HTTP: a page, and a line for curl; until Ctrl-C
	@scripts/quickstart-serve

.PHONY: lint
lint: install ## style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict

.PHONY: format
format: install ## put the code into the house format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: test
test: lint ## everything that has to hold: lint, then the tests, two at a time but for those with vLLM
	$(BIN)/python -m pytest -m "not chaos and not vllm" --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -m "vllm and not chaos"

.PHONY: chaos
chaos: install ## faults of commands and of three real nodes, staged and counted (as root, with ip, redis-server, postgresql)
	@scripts/install llm
	$(BIN)/python -m pytest tests/chaos tests/integration -m chaos --timeout 1800 --durations=0 -rs

.PHONY: lock
lock: ## resolve requirements/ anew (needs uv)
	$(PYTHON) scripts/lock

.PHONY: clean
clean: ## remove what was installed, built and computed, but not downloads and runs
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find coldray tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
