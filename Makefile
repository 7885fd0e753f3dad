# `make` alone lists the commands. Everything is made under build/.

# Python 3.10, 3.11 or 3.12. A venv that is there keeps its own until another one is asked for.
PYTHON ?= $(if $(THERE),$(VENV)/bin/python,python3)
# auto, image (needs Docker) or worker (does not).
MODE ?= auto
# One benchmark of `make bench`; all when empty.
ONLY ?=
# Ports for `make up`; free ones are taken when empty.
PORT ?=
AWS_PORT ?=

VENV := build/venv
SAM_VENV := build/venv-sam
CHECKOV_VENV := build/venv-checkov
BENCH_VENV := build/venv-bench
EXECUTOR := {{cookiecutter.project_name}}/executor
FUNCTION := {{cookiecutter.project_name}}/function

SANDBOX := $(VENV)/.sandbox
INSTALLED := $(VENV)/.executor
SAM := $(SAM_VENV)/.sam
CHECKOV := $(CHECKOV_VENV)/.checkov
TOOLS := $(VENV)/.test
BENCH := $(BENCH_VENV)/.bench
BENCH_OURS := $(BENCH_VENV)/.ours
BENCH_PUBLIC := $(BENCH_VENV)/.public

THERE := $(and $(wildcard $(SANDBOX)),$(wildcard $(VENV)/bin/python))
INSTALL := sh requirements/install.sh "$(PYTHON)"
RUN := exec $(VENV)/bin/python -m sandbox
IN_VENV := PATH="$(CURDIR)/$(VENV)/bin:$(CURDIR)/$(SAM_VENV)/bin:$(CURDIR)/$(CHECKOV_VENV)/bin:$$PATH"
PORTS := $(if $(PORT),--port='$(PORT)') $(if $(AWS_PORT),--aws-port='$(AWS_PORT)')

# Compiled files stay out of the template, which is used in place.
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

.PHONY: help demo up down test lint types unit isolation template e2e bench docs clean venvs test-venvs bench-venv

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile
	@echo '  Settings, such as: PYTHON=python3.12  MODE=image (or worker)  ONLY=latency  PORT=48008  AWS_PORT=4566'

demo: venvs ## Scaffold, deploy and run the hello workflow on this machine; no AWS account
	@$(RUN) demo --mode='$(MODE)' $(PORTS)

up: venvs ## The same, left running to play with
	@$(RUN) up --mode='$(MODE)' $(PORTS)

down: ## End what `make up` started
	@if [ -x $(VENV)/bin/python ]; then $(RUN) down; else echo "nothing is up"; fi

test: lint types unit isolation template e2e ## Every check

lint: $(TOOLS) ## ruff: rules and format
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: $(TOOLS) $(INSTALLED) ## mypy, strict
	@MYPYPATH='$(CURDIR)/$(EXECUTOR)' $(VENV)/bin/mypy --strict -p lambda_calls -p covalent_awslambda_plugin
	@MYPYPATH='$(CURDIR)/$(EXECUTOR)/lambda_calls' $(VENV)/bin/mypy --strict '$(FUNCTION)'
	@$(VENV)/bin/mypy --strict -p sandbox
	@MYPYPATH='$(CURDIR)/$(EXECUTOR)' $(VENV)/bin/mypy --strict -p benchmarks

unit: $(TOOLS) $(INSTALLED) ## Unit tests
	@$(IN_VENV) $(VENV)/bin/python -m pytest tests/unit

isolation: $(TOOLS) $(INSTALLED) ## What an electron leaves behind does not reach the next one
	@$(IN_VENV) $(VENV)/bin/python -m pytest tests/isolation

template: test-venvs ## Tests of the template and of what it generates
	@$(IN_VENV) $(VENV)/bin/python -m pytest tests/template

e2e: test-venvs ## The whole journey, through Docker; COVALENT_LAMBDA_REQUIRE_E2E=1 forbids skips
	@$(IN_VENV) $(VENV)/bin/python -m pytest tests/e2e -rs

bench: bench-venv ## Benchmarks beside the public plugin, bare boto3 and Lithops; renews docs/performance.md
	@exec $(BENCH_VENV)/bin/python -m benchmarks $(if $(ONLY),--only='$(ONLY)')

docs: $(TOOLS) $(INSTALLED) ## Write the parts of docs/ that the code knows better
	@$(VENV)/bin/python docs/generate.py

clean: down ## Remove everything that was made here
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@echo "removed: all of build/, venvs and projects"

ASKED := $(filter-out file,$(origin PYTHON))
# Nothing to look at when the venvs are there and no Python was asked for.
VENVS := $(VENV) $(SAM_VENV) $(CHECKOV_VENV)
CHECK := $(if $(THERE),$(if $(ASKED),,:)) $(INSTALL) check $(VENVS)
# The venvs are made side by side: half the time.
MAKE_VENVS := trap 'sh requirements/install.sh interrupted $(VENVS); exit 130' INT; \
	$(MAKE) --no-print-directory --silent -j2

venvs:
	@$(CHECK)
	@$(MAKE_VENVS) $(INSTALLED) $(SAM)

test-venvs:
	@$(CHECK)
	@$(MAKE_VENVS) $(TOOLS) $(INSTALLED) $(SAM) $(CHECKOV)

BENCH_CHECK := $(if $(wildcard $(BENCH)),$(if $(ASKED),,:)) $(INSTALL) check
BENCH_PYTHON := $(if $(wildcard $(BENCH)),$(BENCH_VENV)/bin/python,"$(PYTHON)")
# A misspelt name is refused before a venv is removed or made.
bench-venv:
	@$(BENCH_CHECK)
	@$(if $(ONLY),$(BENCH_PYTHON) -m benchmarks.names '$(ONLY)')
	@$(BENCH_CHECK) $(BENCH_VENV)
	@trap 'sh requirements/install.sh interrupted $(BENCH_VENV) $(SAM_VENV); exit 130' INT; \
	$(MAKE) --no-print-directory --silent $(BENCH) $(BENCH_OURS) $(BENCH_PUBLIC) $(SAM)

$(SANDBOX): requirements/sandbox.txt
	@$(INSTALL) $(VENV) $@ -r requirements/sandbox.txt

$(SAM): requirements/sam.txt
	@$(INSTALL) $(SAM_VENV) $@ -r requirements/sam.txt

# The executor's sources as a folder that an installation may write into.
LINKS = mkdir -p $(1) && \
	ln -sfn '$(CURDIR)/$(EXECUTOR)/pyproject.toml' $(1)/pyproject.toml && \
	ln -sfn '$(CURDIR)/$(EXECUTOR)/covalent_awslambda_plugin' $(1)/covalent_awslambda_plugin && \
	ln -sfn '$(CURDIR)/$(EXECUTOR)/lambda_calls' $(1)/lambda_calls

$(CHECKOV): requirements/checkov.txt
	@$(INSTALL) $(CHECKOV_VENV) $@ -r requirements/checkov.txt

# In place: a change to the executor needs no reinstallation. Through links, so that what an
# installation leaves beside its sources does not end up in the template.
$(INSTALLED): $(EXECUTOR)/pyproject.toml $(SANDBOX)
	@$(call LINKS,build/executor)
	@$(INSTALL) $(VENV) $@ --no-deps --no-build-isolation -e build/executor

$(TOOLS): requirements/test.txt $(INSTALLED)
	@$(INSTALL) $(VENV) $@ -r requirements/test.txt

$(BENCH): requirements/bench.txt
	@$(INSTALL) $(BENCH_VENV) $@ -r requirements/bench.txt

# As users install it, not in place; anew whenever it changes. What an earlier build left, a module
# that is gone since among it, must not be installed again.
$(BENCH_OURS): $(wildcard $(EXECUTOR)/*/*) $(wildcard $(EXECUTOR)/*/*/*) \
		$(EXECUTOR)/pyproject.toml $(BENCH)
	@rm -rf build/bench/ours build/bench/sources
	@$(call LINKS,build/bench/sources)
	@$(INSTALL) $(BENCH_VENV) $@ --no-deps --no-build-isolation --target build/bench/ours build/bench/sources

$(BENCH_PUBLIC): requirements/bench-public.txt $(BENCH)
	@rm -rf build/bench/public
	@$(INSTALL) $(BENCH_VENV) $@ --no-deps --target build/bench/public -r requirements/bench-public.txt
