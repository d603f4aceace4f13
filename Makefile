# Set-up needs python3 >= 3.11, make and git; no root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# Inherited, it would have each process of Airflow and of the tests compile all that it imports anew: three times the start
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test check lint format types bench fault lock golden env compose-trial clean

help:  ## what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 15

$(BIN)/uv: requirements-uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Control Tower needs Python 3.11 or later; set PYTHON=python3.11 (or later)."; exit 1; }
	@test -x $(BIN)/python || { echo "== making $(VENV)"; $(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing: install it (Debian: apt install python3-venv)."; exit 1; }; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@touch $@

$(VENV)/.run: $(BIN)/uv requirements.txt pyproject.toml
	@echo "== installing the locked packages (about a minute the first time)"
	@UV_LINK_MODE=copy $(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt
	@UV_LINK_MODE=copy $(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements-dev.txt
	@touch $@

setup: $(VENV)/.run  ## the environment that runs the product, in .venv
setup-dev: $(VENV)/.dev  ## the same with the tools for tests and lint

demo: setup  ## a shop's day through Airflow (ONCE=1, DAYS=2, SOURCE=simulated|null-shop|online-retail|<folder>)
	@$(BIN)/python -m demo --source "$(or $(SOURCE),simulated)" $(if $(DAYS),--days $(DAYS)) $(if $(ONCE),--once)

test: setup-dev  ## all tests, on SQLite and PostgreSQL (FAST=1: the quick ones, on SQLite)
	@$(BIN)/python -m pytest -n $(WORKERS) $(if $(FAST),-m "not slow and not airflow") $(ARGS)

golden: setup-dev  ## keep what is rendered and requested now as tests/golden (look at the difference)
	@GOLDEN=write $(BIN)/python -m pytest -k golden

lint: setup-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: setup-dev  ## put the code in form
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: setup-dev
	@$(BIN)/mypy

check: lint types test  ## what CI runs: lint, format, types, tests

bench: setup-dev  ## how fast each stage is, beside the naive way
	@$(BIN)/python -m bench

fault: setup-dev  ## schedules of faults, judged by the sandbox's own record (ARGS="--schedules 100 --seed 1"; Linux)
	@PYTHONPATH=include:tests $(BIN)/python -W ignore -m fault $(ARGS)

env: .env  ## a .env for compose.yaml, with secrets of its own (docs/deployment.md)

.env:
	@(umask 077; $(PYTHON) deploy/new_env.py > .env.new) && mv .env.new .env && mkdir -p source
	@echo "wrote .env: set CONTROLTOWER_PUBLIC_URL, SOURCE_FOLDER and the SendGrid variables in it, then: docker compose up -d"

compose-trial: setup-dev  ## run what compose.yaml runs, without Docker (Linux, root, some minutes)
	@PYTHONPATH=include:tests $(BIN)/python -W ignore -m compose.trial

lock: $(BIN)/uv  ## compile requirements*.in into the hashed locks
	@for f in requirements-uv requirements requirements-dev; do \
	  UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url -o $$f.txt $$f.in || exit 1; done

clean:  ## remove the environment and the demo's homes
	rm -rf $(VENV) .demo
