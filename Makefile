# Everything runs in .venv, which is made on first use. Only Python 3.11 or newer, make and PyPI are needed.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
QUICK := --hypothesis-profile quick -m 'not (process or database or slow or soak)'
TESTS ?= $(QUICK)
EXTRAS := $(addprefix --extra ,postgres mysql safetensors adbc)

# The tests start hundreds of Python processes, which should not compile the same modules again and again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo run test coverage quick lowest newest soak check types format bench clean

help: ## show what can be made
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*## /	/'

demo: $(STAMP) ## install, make a small data set, train on it, show recommendations
	$(BIN)/recserver demo --data recserver-demo

run: $(STAMP) ## install and serve the folder data/
	$(BIN)/recserver serve --data data

test: $(STAMP) ## install and run the tests
	$(BIN)/pytest -n 3 --dist loadfile $(PYTEST_ARGS)

coverage: $(STAMP) ## run the tests, print which lines and branches they leave out, fail if these are too many
	$(BIN)/pytest -n 3 --dist loadfile --cov --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

quick: $(STAMP) ## run the tests that need no processes, no databases and little time
	$(BIN)/pytest -n 2 $(QUICK) $(PYTEST_ARGS)

lowest: ## run the tests of quick against the wheel, with the lowest versions that pyproject.toml allows
lowest: RESOLUTION := lowest-direct
newest: ## run them against the wheel, with the newest versions there are
newest: RESOLUTION := highest

lowest newest: $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-$@
	$(BIN)/uv build --quiet --wheel --out-dir .venv-$@/dist
	$(BIN)/uv pip install --python .venv-$@ --resolution $(RESOLUTION) --requirements pyproject.toml $(EXTRAS)
	$(BIN)/uv pip install --python .venv-$@ --group test .venv-$@/dist/*.whl
	.venv-$@/bin/pytest -n 2 $(TESTS) $(PYTEST_ARGS)

soak: $(STAMP) ## run the long tests
	$(BIN)/pytest -m soak $(PYTEST_ARGS)

check: $(STAMP) ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory types

types: $(STAMP) ## check the public API, and the programs in the documentation, as a host application would
	rm -rf build/types
	$(BIN)/uv build --quiet --wheel --out-dir build/types/dist
	$(BIN)/uv pip install --quiet --no-deps --target build/types/site build/types/dist/*.whl
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH="$(CURDIR)/build/types/site" $(BIN)/pyright --verifytypes recserver --ignoreexternal
	$(BIN)/python -m tests.helpers.doc_blocks build/types/docs
	$(BIN)/mypy --strict build/types/docs
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright

format: $(STAMP) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## measure, print tables, write bench/results/
	$(BIN)/python -m bench

clean: ## remove what was installed and made
	rm -rf .venv .venv-lowest .venv-newest .coverage* build recserver-demo bench/results

$(STAMP): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "recserver needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.10"
	UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv sync --locked --quiet --compile-bytecode --python $(BIN)/python
	@touch $@
