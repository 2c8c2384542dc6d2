# What can be done here: `make` lists it.

.DEFAULT_GOAL := help
.PHONY: help setup run doctor stack test setup-tests setup-chromium setup-servers chaos check format lock setup-bench bench bench-docs clean

BIN := .venv/bin
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
PYTHON_FILES := app.py config.py worker.py gunicorn.conf.py settings wiring blueprints thumbnailer tests benchmarks scripts

# Tests at a time, one more than cores, for many of them wait; ARGS go to pytest, as in: make test ARGS="tests/test_thumb.py -x"
TEST_WORKERS ?= $(shell expr $$(nproc) + 1)
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.installed ## make .venv with everything that the service runs on, pinned
	@:

# What the tests need includes what the service runs on: after `make test` nothing is left to do here.
.venv/.installed: requirements.lock
	@scripts/setup.sh requirements.lock
	@touch $@

.venv/.installed-dev: requirements-dev.lock
	@scripts/setup.sh requirements-dev.lock
	@touch .venv/.installed $@

run: export APP_ENV ?= development
run: setup ## serve on port 8000 (or PORT) with local Chromium, file cache and local storage
	@scripts/install-chromium.sh
	@exec $(BIN)/gunicorn

doctor: export APP_ENV ?= development
doctor: setup ## try every part of what `make run` serves, and say what is wrong with it
	@$(BIN)/flask doctor $(ARGS)

stack: setup-tests ## run the production shape on this machine: nginx, gunicorn, Redis, Celery worker and beat
	@exec $(BIN)/python scripts/stack.py

setup-tests: setup-servers setup-chromium .venv/.compiled-tests ## install all that the tests need, best with --jobs=2

setup-servers: ## install what the tests start: Redis, nginx, PostgreSQL, Prometheus, the languages of the recipes
	@scripts/install-test-servers.sh

setup-chromium: .venv/.installed-dev ## install Chromium and the fonts that pages need
	@scripts/install-chromium.sh

# Once, while packages are fetched, instead of by each of those who run the tests side by side.
.venv/.compiled-tests: .venv/.installed-dev
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --collect-only -qq >/dev/null || true
	@touch $@

test: ## run every test
	@$(MAKE) --no-print-directory --jobs=2 setup-tests
	@scripts/test.sh $(TEST_WORKERS) $(ARGS)

chaos: setup-tests ## lose no job of 500 while workers, services and Redis are killed
	TEST_JOBS=500 TEST_KILL_SECONDS=5 $(BIN)/pytest -q -s tests/test_job_workers.py -k nothing_is_lost

check: .venv/.installed-dev ## check format, lint, types and architecture
	$(BIN)/ruff format --check $(PYTHON_FILES)
	$(BIN)/ruff check $(PYTHON_FILES)
	$(BIN)/mypy $(PYTHON_FILES)
	$(BIN)/pytest -q tests/test_architecture.py

format: .venv/.installed-dev ## format the code and mend what the linter can
	$(BIN)/ruff format $(PYTHON_FILES)
	$(BIN)/ruff check --fix $(PYTHON_FILES)

lock: .venv/.installed-dev ## pin all packages anew, with hashes
	$(LOCK) requirements.txt --output-file requirements.lock
	$(LOCK) requirements-dev.txt --output-file requirements-dev.lock
	$(LOCK) benchmarks/peers/requirements.txt --output-file benchmarks/peers/requirements.lock

.venv-bench/.installed: benchmarks/peers/requirements.lock
	@scripts/setup.sh $< .venv-bench
	@touch $@

.venv-service/.installed: requirements.lock
	@scripts/setup.sh $< .venv-service
	@touch $@

setup-bench: setup-tests .venv-bench/.installed .venv-service/.installed ## install what the measurements compare the service with
	@scripts/apt-install.sh wrk varnish chromium

bench: setup-bench ## measure everything, or some parts: ARGS="hits edge", ARGS="--quick"
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-docs: setup-bench ## write the newest results into docs/benchmarks.md, with plots
	$(BIN)/python benchmarks/write_docs.py $(ARGS)
	.venv-bench/bin/python benchmarks/plots.py $(ARGS)

clean: ## remove what make has made; pictures in var/ stay
	rm -rf .venv .venv-bench .venv-service .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
