# The door of the project. Every target works on a fresh clone: it makes .venv, installs, builds the assets, and goes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Two test processes: as many as the smallest machine that this must run on has cores.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo up test test-slow test-pg16 check format docs bench assets clean

help: ## what there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 22

demo: $(VENV)/.run ## upload, validate, train and prove a small model, end to end
	@$(PYTHON) hatch_build.py
	@$(BIN)/brightrun demo

up: $(VENV)/.run ## run BrightRun on this machine
	@$(PYTHON) hatch_build.py
	@$(BIN)/brightrun up

test: $(VENV)/.dev ## all tests but the slow ones, with coverage
	@$(PYTHON) hatch_build.py
	@$(BIN)/python scripts/ensure_chromium.py
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "not slow" --cov --cov-report= -q
	@$(BIN)/coverage report --format=total | sed 's/^/coverage, percent: /'

test-slow: $(VENV)/.dev ## kill and soak tests
	@$(BIN)/python scripts/ensure_chromium.py
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m slow -q

test-pg16: $(VENV)/.dev ## what touches the database, against PostgreSQL 16 given as DATABASE_URL
	@$(BIN)/python scripts/with_postgres16.py $(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "not slow and not browser" \
	  -q tests/db tests/accounts tests/queue tests/datasets tests/models tests/costs tests/notifications tests/test_tenancy.py \
	  tests/training/test_jobs_api.py tests/training/test_supervisor_claims.py tests/training/test_jobs_curves.py \
	  tests/training/test_run_retention.py tests/cli/test_workspaces_quota.py

check: $(VENV)/.dev ## format, lint, types, import contract, OpenAPI and documentation drift
	@$(BIN)/ruff format --check -q .
	@$(BIN)/ruff check -q .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy
	@$(BIN)/python scripts/reference.py --check

format: $(VENV)/.dev ## format and fix what can be fixed
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .

docs: $(VENV)/.dev ## write the generated reference: OpenAPI, settings, validation codes, commands
	@$(BIN)/python scripts/reference.py

bench: $(VENV)/.dev ## the benchmarks; results go to benchmarks/RESULTS.md by hand
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

assets: ## build the pages' assets again
	@$(PYTHON) hatch_build.py

clean: ## remove what the targets made
	rm -rf $(VENV) node_modules src/brightrun/web/static/dist .mypy_cache .ruff_cache .import_linter_cache htmlcov .coverage*

# --- installation -----------------------------------------------------------------------------------------------------

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("BrightRun needs Python 3.11 or newer; this is " + sys.version.split()[0] + " (make PYTHON=python3.12 …)" if sys.version_info < (3, 11) else 0)'
	@node -e 'process.exit(+process.versions.node.split(".")[0] >= 20 ? 0 : 1)' 2>/dev/null || { echo "BrightRun needs Node.js 20 or newer to build its pages: https://nodejs.org"; exit 1; }
	@echo "making $(VENV)"; $(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt package-lock.json
	@echo "installing BrightRun into $(VENV) (once; a few minutes)"
	@$(BIN)/pip install -q -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt package-lock.json
	@echo "installing BrightRun and what its checks need into $(VENV) (once; a few minutes)"
	@$(BIN)/pip install -q -c constraints.txt -e '.[train,s3,dev]'
	@touch $@ $(VENV)/.run
