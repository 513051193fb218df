# Every target sets up what it needs in .venv, once; the second time it is instant.
#   make serve PYTHON=python3.12        with this interpreter (default: the newest that works, 3.11 or later)
#   make serve ARGS="--listen 0.0.0.0:4000"    ARGS are handed on; so too to test, soak and bench

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
# One more than there are cores: many tests wait. A daemon is started for each file: its tests stay together.
PARALLEL := -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --dist loadfile
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input

.PHONY: help install serve test check format docs bench bench-peers replay soak clean

help: ## show this list
	@[ -t 1 ] && bold=$$(printf '\033[1m') plain=$$(printf '\033[0m') || bold= plain=; \
	awk -F ':.*## ' -v bold="$$bold" -v plain="$$plain" \
	    '/^[a-z-]+:.*## / { printf "  %smake %-12s%s %s\n", bold, $$1, plain, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(VENV)/.installed ## set up .venv with the llmctl command
	@echo "Ready: $(BIN)/llmctl --help"

serve: $(VENV)/.installed ## create config.toml and llmctl.db if there are none, start the gateway
	@export LLMCTL_CONFIG="$${LLMCTL_CONFIG:-config.toml}" && \
	$(BIN)/llmctl init --demo --if-not-exists && exec $(BIN)/llmctl serve $(ARGS)

test: $(VENV)/.installed-dev ## run the tests
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

check: $(VENV)/.installed-dev ## all that a change has to pass: lint, format, types, imports, tests
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy --strict
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

format: $(VENV)/.installed-dev ## format the code, fix what ruff can fix
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

docs: $(VENV)/.installed-dev ## write the command reference into README.md
	@$(BIN)/python -m tests.reference

bench: $(VENV)/.installed-dev ## measure the gateway beside a bare pass-through
	@$(BIN)/python -m tests.bench $(ARGS)

bench-peers: $(VENV)/.installed-dev ## the same beside nginx, Portkey and LiteLLM, which it installs into .peers
	@[ -d .peers ] || $(BIN)/python -m tests.bench.peers --install
	@$(BIN)/python -m tests.bench.peers $(ARGS)

replay: $(VENV)/.installed-dev ## send recorded traffic through the gateway: make replay CORPUS=FILE
	@$(BIN)/python -m tests.replay $(or $(CORPUS),--help) $(ARGS)

soak: $(VENV)/.installed-dev ## run the tests that take minutes to hours
	@$(BIN)/python -m pytest -m soak $(ARGS)

clean: ## remove .venv, builds and caches; config.toml and llmctl.db stay
	@rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find llmctl tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml $(VENV)/.created
	@echo "Installing llmctl into $(VENV)"
	@$(PIP_INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.created
	@echo "Installing llmctl and its test tools into $(VENV)"
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $(VENV)/.installed $@

# An interpreter counts if it starts (a pyenv shim may not) and has what we need (a home-built one may lack sqlite3).
$(VENV)/.created:
	@for python in $(PYTHONS); do \
	    "$$python" -c 'import sqlite3, ssl, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    without_venv=$$python; \
	    "$$python" -c 'import ensurepip, venv' 2>/dev/null || continue; \
	    echo "Creating $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv --clear $(VENV) && touch $@; \
	    exit; \
	done; \
	if [ -n "$$without_venv" ]; then \
	    package=$$("$$without_venv" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	    echo "$$without_venv cannot make virtual environments. On Debian or Ubuntu: apt install $$package" >&2; \
	else \
	    echo "No Python 3.11 or later with ssl and sqlite3 among: $(PYTHONS)." \
	        "Install one, or name yours: make PYTHON=/path/to/python3" >&2; \
	fi; \
	exit 1

# An upgrade of the system may take away the interpreter that .venv links to: then make it anew.
ifneq ($(shell test -x $(BIN)/python && echo usable),usable)
.PHONY: $(VENV)/.created
endif
