# Again: what can be done here. `make` alone lists it.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo clients test test-fast test-oldest model check reference docs format chaos mutants resilience bench sweep bench-forecast clean
PAYMENTS ?= 1000000
SUBSCRIPTIONS ?= 1000000
CHARGES ?= 20000
MODEL_CHARGES ?= 1000000
SEED ?= 1
CHAOS ?=
ROWS ?=
OLDEST ?= /usr/lib/postgresql/15/bin
BENCH ?=
VENV := .venv
STAMP := $(VENV)/.again-setup
UV_VERSION := 0.13.9
# The first of these that is 3.11 or newer makes the virtual environment; PYTHON=… picks another.
PYTHON ?= $(shell for p in python3 python3.15 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 16))' >/dev/null 2>&1 && { echo $$p; break; }; done)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## install everything, with locked versions, into .venv; creates .venv/bin/again

$(STAMP): pyproject.toml uv.lock
	@test -n "$(PYTHON)" || { echo "again needs Python 3.11 to 3.15, and none was found on the PATH; install one, or say: make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@test -x $(VENV)/bin/uv || $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/uv sync --quiet --frozen --all-extras --compile-bytecode --python $(VENV)/bin/python
	@touch $@

demo: $(STAMP) ## bill three months of a sample shop with real processes and faults
	@$(VENV)/bin/again demo

test: $(STAMP) ## all tests, with the services that they start and stop
	@$(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: $(STAMP) ## rules, gateway, simulator and structure in under a minute; needs no database
	@$(VENV)/bin/python -m pytest -n 2 --dist worksteal tests/rules tests/gateway tests/simulator tests/architecture

test-oldest: $(STAMP) ## store, workflow, whole-shop and failover tests on the oldest supported PostgreSQL, in OLDEST; needs pgbouncer
	@test -x $(OLDEST)/postgres || { echo "no PostgreSQL in $(OLDEST): apt-get install postgresql-15, or say: make test-oldest OLDEST=/folder/of/postgres" >&2; exit 1; }
	@PATH="$$PATH:/usr/sbin" command -v pgbouncer >/dev/null || { echo "no pgbouncer: apt-get install pgbouncer" >&2; exit 1; }
	@EMBEDDED_POSTGRES=$(OLDEST) $(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder tests/store tests/workflows tests/acceptance/test_shop.py tests/acceptance/test_failover.py

clients: $(STAMP) ## PortOne clients of other authors, run against the simulator; needs Node.js
	@$(VENV)/bin/python -m tests.clients

model: $(STAMP) ## the charge protocol on a simulated clock: MODEL_CHARGES=1000000 SEED=1
	@$(VENV)/bin/python -m tests.model.longrun --charges $(MODEL_CHARGES) --seed $(SEED)

check: $(STAMP) ## lint, format, types, import contracts, lock file
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/uv lock --check --quiet

reference: $(STAMP) ## write the reference pages of settings, events, tasks and commands from the code
	@$(VENV)/bin/python -m tools.reference

docs: $(STAMP) ## build the site of docs/ in .site; a broken link fails
	@UV_PROJECT_ENVIRONMENT=.venv-docs $(VENV)/bin/uv sync --quiet --frozen --only-group docs --python $(VENV)/bin/python
	@.venv-docs/bin/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going docs .site
	@echo "written: .site/index.html"

format: $(STAMP) ## format the code
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

chaos: $(STAMP) ## kill and freeze the processes of a shop of CHARGES=20000, SEED=1, and compare its records with the gateway's
	@$(VENV)/bin/python -m tests.chaos --charges $(CHARGES) --seed $(SEED) $(CHAOS)

mutants: $(STAMP) ## remove each guard, one at a time, and show which test fails
	@$(VENV)/bin/python -m tests.mutants

resilience: $(STAMP) ## run the tests of each row of docs/reference/resilience.md, or of ROWS="words", and record the results
	@$(VENV)/bin/python -m tests.resilience $(ROWS)

bench: $(STAMP) ## every benchmark beside its baselines; BENCH="--small", or names of parts
	@$(VENV)/bin/python -m benchmarks $(BENCH)

sweep: $(STAMP) ## reconcile PAYMENTS=1000000 of 90 days, and show the memory that it takes
	@$(VENV)/bin/python -m benchmarks.sweep --payments $(PAYMENTS)

bench-forecast: $(STAMP) ## forecast a month of SUBSCRIPTIONS=1000000, beside a plain read of their rows
	@$(VENV)/bin/python -m benchmarks.forecast --subscriptions $(SUBSCRIPTIONS)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .venv-docs .site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
