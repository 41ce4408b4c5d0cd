# Every target is one line of work; `make help` lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "python3 has no ensurepip: install the package python3-venv (Debian, Ubuntu) or python3-pip (Fedora), then run make again"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/.ready ## install into .venv and run the main job against the embedded Hub
	@$(BIN)/modelbay demo

test: $(VENV)/.ready ## the tests that need no installed server (under 4 minutes)
	$(BIN)/python -m pytest -q -n 3 --dist loadfile -m "not real"

test-real: $(VENV)/.ready ## the tests against real servers, peers and mounts; installs what it needs
	bash .ci/install-real && $(BIN)/python -m pytest -q -m real

check: $(VENV)/.ready ## format, lint, types, contracts
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

fix: $(VENV)/.ready ## format and mend what can be mended by itself
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(VENV)/.ready ## modelbay beside aria2, curl and hf (installs them; takes minutes)
	$(BIN)/python bench/run.py

.PHONY: help demo test test-real check fix bench
