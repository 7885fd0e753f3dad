# `make` alone lists the commands. Everything is made under build/.

# Python 3.10, 3.11 or 3.12. A venv that is there keeps its own until another one is asked for.
PYTHON ?= $(if $(THERE),$(VENV)/bin/python,python3)
# auto, image (needs Docker) or worker (does not).
MODE ?= auto
# Ports for `make up`; free ones are taken when empty.
PORT ?=
AWS_PORT ?=

VENV := build/venv
SAM_VENV := build/venv-sam
EXECUTOR := {{cookiecutter.project_name}}/executor

SANDBOX := $(VENV)/.sandbox
INSTALLED := $(VENV)/.executor
SAM := $(SAM_VENV)/.sam
TOOLS := $(VENV)/.test

THERE := $(and $(wildcard $(SANDBOX)),$(wildcard $(VENV)/bin/python))
INSTALL := sh requirements/install.sh "$(PYTHON)"
RUN := exec $(VENV)/bin/python -m sandbox
IN_VENV := PATH="$(CURDIR)/$(VENV)/bin:$(CURDIR)/$(SAM_VENV)/bin:$$PATH"
PORTS := $(if $(PORT),--port='$(PORT)') $(if $(AWS_PORT),--aws-port='$(AWS_PORT)')

# Compiled files stay out of the template, which is used in place.
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

.PHONY: help demo up down test lint types unit template e2e clean venvs test-venvs

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile
	@echo '  Settings: PYTHON=python3.12  MODE=auto|image|worker  PORT=48008  AWS_PORT=4566'

demo: venvs ## Scaffold, deploy and run the hello workflow on this machine; no AWS account
	@$(RUN) demo --mode='$(MODE)' $(PORTS)

up: venvs ## The same, left running to play with
	@$(RUN) up --mode='$(MODE)' $(PORTS)

down: ## End what `make up` started
	@if [ -x $(VENV)/bin/python ]; then $(RUN) down; else echo "nothing is up"; fi

test: lint types unit template e2e ## Every check

lint: $(TOOLS) ## ruff: rules and format
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: $(TOOLS) $(INSTALLED) ## mypy, strict
	@$(VENV)/bin/mypy --strict '$(EXECUTOR)/covalent_awslambda_plugin'
	@$(VENV)/bin/mypy --strict -p sandbox

unit: $(TOOLS) $(INSTALLED) ## Unit tests
	@$(IN_VENV) $(VENV)/bin/python -m pytest tests/unit

template: test-venvs ## Tests of the template and of what it generates
	@$(IN_VENV) $(VENV)/bin/python -m pytest tests/template

e2e: test-venvs ## The whole journey, through Docker; COVALENT_LAMBDA_REQUIRE_E2E=1 forbids skips
	@$(IN_VENV) $(VENV)/bin/python -m pytest tests/e2e -rs

clean: down ## Remove everything that was made here
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis

ASKED := $(filter-out file,$(origin PYTHON))
# Nothing to look at when the venvs are there and no Python was asked for.
CHECK := $(if $(THERE),$(if $(ASKED),,:)) $(INSTALL) check $(VENV) $(SAM_VENV)
# The two venvs are made side by side: half the time.
MAKE_VENVS := trap 'sh requirements/install.sh interrupted $(VENV) $(SAM_VENV); exit 130' INT; \
	$(MAKE) --no-print-directory --silent -j2

venvs:
	@$(CHECK)
	@$(MAKE_VENVS) $(INSTALLED) $(SAM)

test-venvs:
	@$(CHECK)
	@$(MAKE_VENVS) $(TOOLS) $(INSTALLED) $(SAM)

$(SANDBOX): requirements/sandbox.txt
	@$(INSTALL) $(VENV) $@ -r requirements/sandbox.txt

$(SAM): requirements/sam.txt
	@$(INSTALL) $(SAM_VENV) $@ -r requirements/sam.txt

# In place: a change to the executor needs no reinstallation. Through links, so that what an
# installation leaves beside its sources does not end up in the template.
$(INSTALLED): $(EXECUTOR)/pyproject.toml $(SANDBOX)
	@mkdir -p build/executor
	@ln -sfn '$(CURDIR)/$(EXECUTOR)/pyproject.toml' build/executor/pyproject.toml
	@ln -sfn '$(CURDIR)/$(EXECUTOR)/covalent_awslambda_plugin' build/executor/covalent_awslambda_plugin
	@$(INSTALL) $(VENV) $@ --no-deps --no-build-isolation -e build/executor

$(TOOLS): requirements/test.txt $(INSTALLED)
	@$(INSTALL) $(VENV) $@ -r requirements/test.txt
