# Every target installs its needs into $(VENV): with uv if it is on the PATH, otherwise with venv and pip.
# Another Python:  make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV := $(shell command -v uv 2>/dev/null)
PYTEST = $(BIN)/pytest
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo format check test test/unit test/contract test/live test/lowest test/newest bench soak fuzz lock clean

help: ## Show the targets.
	@grep -E '^[a-z/]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(INSTALLED) ## Install the package and its tools into the virtual environment.

# requirements.lock pins the versions of the tests; the package itself declares ranges.
$(INSTALLED): pyproject.toml requirements.lock
ifeq ($(UV),)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -e '.[testing]'
else
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet -r requirements.lock -e '.[testing]'
endif
	@touch $@

demo: $(INSTALLED) ## Run an Agent on Ollama (or on the simulator, if no server answers).
	@$(BIN)/python examples/quickstart.py $(ARGS)

format: $(INSTALLED) ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(INSTALLED) ## Lint, types, layers.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

test: $(INSTALLED) ## All tests that need no server, with branch coverage.
	$(PYTEST) -n $(WORKERS) --cov --cov-fail-under=95 $(ARGS)

test/unit: $(INSTALLED) ## Unit tests.
	$(PYTEST) -n $(WORKERS) tests/unit $(ARGS)

test/contract: $(INSTALLED) ## Recordings of a real server, replayed.
	$(PYTEST) -n $(WORKERS) tests/contract $(ARGS)

test/live: $(INSTALLED) ## Against the server at OLLAMA_HOST.
	$(PYTEST) tests/live --live $(ARGS)

test/lowest: ## All tests with the lowest versions that pyproject.toml allows (needs uv).
	uv venv --quiet --allow-existing --python $(PYTHON) .venv-lowest
	VIRTUAL_ENV=.venv-lowest uv pip install --quiet --resolution lowest-direct --group dev -e '.[testing]'
	.venv-lowest/bin/pytest -n $(WORKERS) $(ARGS)

# Ignores requirements.lock and the pip constraints of the machine.
test/newest: ## Unit and contract tests with the newest versions of all dependencies.
	rm -rf .venv-newest
ifeq ($(UV),)
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	PIP_CONSTRAINT=/dev/null .venv-newest/bin/python -m pip install --quiet --disable-pip-version-check \
		--group dev -e '.[testing]'
else
	$(UV) venv --quiet --python $(PYTHON) .venv-newest
	VIRTUAL_ENV=.venv-newest $(UV) pip install --quiet --upgrade --group dev -e '.[testing]'
endif
	.venv-newest/bin/pytest -n $(WORKERS) tests/unit tests/contract $(ARGS)

bench: $(INSTALLED) ## Print the benchmark tables.
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(INSTALLED) ## Make 10,000 calls on 50 threads, half of them awaited, of which 5% fail, and check for leaks.
	PYTHONPATH=tests $(BIN)/python -m soak $(ARGS)

fuzz: $(INSTALLED) ## Read 100,000 recordings that were changed at random.
	PYTHONPATH=tests $(BIN)/python -m contract.fuzzing $(or $(ARGS),100000)

lock: ## Refresh requirements.lock (needs uv).
	uv pip compile --quiet --universal --python-version 3.10 --extra testing --group dev --no-header \
		--no-emit-index-url --output-file requirements.lock pyproject.toml

clean: ## Remove the virtual environments and caches.
	rm -rf .venv .venv-* .pytest_cache .ruff_cache .hypothesis .coverage*
