# `make` alone lists the commands. Everything is made under build/.

# Python 3.10 to 3.13. A venv that is there keeps its own until another one is asked for.
PYTHON ?= $(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python,python3)
# auto, image (needs Docker) or worker (does not).
MODE ?= auto
# One benchmark of `make bench`, or one part of `make faults` (table, programs, storm); all when empty.
ONLY ?=
# Ports for `make up`; free ones are taken when empty.
PORT ?=
AWS_PORT ?=

VENV := build/venv
SAM_VENV := build/venv-sam
CHECKOV_VENV := build/venv-checkov
DOCS_VENV := build/venv-docs
FUZZ_VENV := build/venv-fuzz
BENCH_VENV := build/venv-bench
EXECUTOR := {{cookiecutter.project_name}}/executor
FUNCTION := {{cookiecutter.project_name}}/function

CHECK_PYTHON := sh requirements/check-python.sh "$(PYTHON)"
INSTALL := "$(PYTHON)" requirements/install.py
RUN := exec $(VENV)/bin/python -m sandbox
IN_VENV := PATH="$(CURDIR)/$(VENV)/bin:$(CURDIR)/$(SAM_VENV)/bin:$(CURDIR)/$(CHECKOV_VENV)/bin:$$PATH"
# Requirements hold quotes and the like: the shell reads them from its environment.
SETTINGS := --mode="$(MODE)" $(if $(PORT),--port="$(PORT)") $(if $(AWS_PORT),--aws-port="$(AWS_PORT)") \
	$(if $(filter undefined,$(origin PACKAGES)),,--packages="$$PACKAGES")

# Compiled files stay out of the template, which is used in place.
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

.PHONY: help demo up down status logs test lint types unit isolation template examples faults faults-seed soak fuzz site e2e bench docs clean locks \
	venvs test-venvs docs-venv fuzz-venv bench-venv check-demo check-up

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile
	@echo '  Settings, such as: PYTHON=python3.12  MODE=image (or worker)  PACKAGES="numpy pandas"'
	@echo '                     ONLY=latency  PORT=48008  AWS_PORT=4566'

demo: check-demo venvs ## Scaffold, deploy and run the hello workflow on this machine; no AWS account
	@$(RUN) demo $(SETTINGS)

up: check-up venvs ## The same, left running to play with
	@$(RUN) up $(SETTINGS)

ANY_UP = if [ -x $(VENV)/bin/python ]; then $(RUN) $(1); else echo "nothing is up"; fi
down: ## End what `make up` started; dispatches, results and the project stay
	@$(call ANY_UP,down)

status: ## What of `make up` runs, and where
	@$(call ANY_UP,status)

logs: ## The last lines of its logs, the function's too
	@$(call ANY_UP,logs)

test: lint types unit isolation template examples faults-seed site e2e ## Every check

lint: test-venvs ## ruff: rules and format
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: test-venvs ## mypy, strict
	@MYPYPATH='$(CURDIR)/$(EXECUTOR)' $(VENV)/bin/mypy --strict -p lambda_calls -p covalent_awslambda_plugin
	@MYPYPATH='$(CURDIR)/$(EXECUTOR)/lambda_calls' $(VENV)/bin/mypy --strict '$(FUNCTION)'
	@$(VENV)/bin/mypy --strict -p sandbox
	@MYPYPATH='$(CURDIR)/$(EXECUTOR)' $(VENV)/bin/mypy --strict --follow-imports=silent requirements/install.py docs/generate.py docs/picture.py docs/transcripts.py
	@MYPYPATH='$(CURDIR)/$(EXECUTOR)' $(VENV)/bin/mypy --strict -p benchmarks
	@MYPYPATH='$(CURDIR)/$(EXECUTOR):$(CURDIR)/tests' $(VENV)/bin/mypy --strict -p faults

# Two keep a machine of two processors busy, three where tests wait for half of their time. A file
# stays with one process: its tests share what they start.
SIDE_BY_SIDE := --dist=loadfile --numprocesses
unit: test-venvs ## Unit tests
	@$(IN_VENV) $(VENV)/bin/python -m pytest $(SIDE_BY_SIDE)=3 tests/unit

isolation: test-venvs ## What an electron leaves behind does not reach the next one
	@$(IN_VENV) $(VENV)/bin/python -m pytest tests/isolation

template: test-venvs ## Tests of the template and of what it generates
	@$(IN_VENV) $(VENV)/bin/python -m pytest $(SIDE_BY_SIDE)=2 tests/template

examples: test-venvs ## Run the examples, the tutorial and the pages' code, in a sandbox of their own
	@$(IN_VENV) $(VENV)/bin/python -m pytest tests/examples

# Its banner is about a version that is not installed here; --quiet would silence the refusals.
site: docs-venv ## The website of docs/, in build/site; broken links are refused
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build

e2e: test-venvs ## The whole journey, through Docker; COVALENT_LAMBDA_REQUIRE_E2E=1 forbids skips
	@$(IN_VENV) $(VENV)/bin/python -m pytest $(SIDE_BY_SIDE)=2 tests/e2e -rs

# Which requests are broken; anew each time when empty.
SEED ?=
FAULTS := $(VENV)/bin/python -m faults $(if $(SEED),--seed='$(SEED)')
# Calls among random faults, and as many again with retries.
STORM ?= 1000
faults: test-venvs ## Break everything around the executor for minutes; SEED=… repeats a run; renews docs/reliability.md
	@$(IN_VENV) $(FAULTS) --calls $(STORM) $(if $(ONLY),--only='$(ONLY)') --keep
	@$(VENV)/bin/python docs/generate.py

# Python's own allocator gives hardly any page back, so what it holds would tell of the busiest moment.
soak: test-venvs ## Twenty minutes of calls among faults in one process, then programs suspended for ten
	@$(IN_VENV) PYTHONMALLOC=malloc $(FAULTS) --only soak --soak 20 --keep
	@$(VENV)/bin/python docs/generate.py

faults-seed: test-venvs ## A minute of it
	@$(IN_VENV) $(FAULTS) --small

# Seconds for each of the six kinds of input.
SECONDS ?= 60
FUZZED := wire settings executor ping answers output
fuzz: fuzz-venv test-venvs ## Feed envelopes, files, answers with inputs that coverage has found; SECONDS=… for each kind
	@for name in $(FUZZED); do \
		$(FUZZ_VENV)/bin/python -m faults.fuzzing $$name -max_total_time=$(SECONDS) -max_len=4000 -print_final_stats=1 \
			>build/logs/fuzz-$$name.log 2>&1 || { tail -n 40 build/logs/fuzz-$$name.log; exit 1; }; \
		echo "$$name: $$(grep -h '^Done' build/logs/fuzz-$$name.log)"; \
	done
	@$(VENV)/bin/python -m faults.report $(FUZZED:%=build/logs/fuzz-%.log)
	@$(VENV)/bin/python docs/generate.py

bench: bench-venv ## Benchmarks beside the public plugin, bare boto3 and Lithops; renews docs/performance.md
	@exec $(BENCH_VENV)/bin/python -m benchmarks $(if $(ONLY),--only='$(ONLY)')

docs: test-venvs ## Write the parts of docs/ that the code knows better
	@$(VENV)/bin/python docs/generate.py

clean: ## Remove everything that was made here, images and kept dispatches too
	@if [ -x $(VENV)/bin/python ]; then $(VENV)/bin/python -m sandbox clean; fi
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@echo "removed: all of build/, venvs and projects"

locks: ## Renew requirements/*.txt from requirements/*.in
	@$(CHECK_PYTHON)
	@$(INSTALL) lock uv build sandbox sam checkov docs test fuzz bench bench-public

# A misspelt setting is refused before anything is installed.
check-demo check-up:
	@$(CHECK_PYTHON)
	@"$(PYTHON)" -m sandbox.settings $(patsubst check-%,%,$@) $(SETTINGS)

# The executor's sources as a folder that an installation may write into.
LINKS = mkdir -p $(1) && \
	ln -sfn '$(CURDIR)/$(EXECUTOR)/pyproject.toml' $(1)/pyproject.toml && \
	ln -sfn '$(CURDIR)/$(EXECUTOR)/covalent_awslambda_plugin' $(1)/covalent_awslambda_plugin && \
	ln -sfn '$(CURDIR)/$(EXECUTOR)/lambda_calls' $(1)/lambda_calls

# Where the tests' tools are installed, they stay: test.txt holds all of sandbox.txt.
LOCK = requirements/$(if $(wildcard $(VENV)/bin/pytest),test,sandbox).txt

# The executor in place: a change to it needs no reinstallation. Through links, so that what an
# installation leaves beside its sources does not end up in the template.
venvs:
	@$(CHECK_PYTHON)
	@$(call LINKS,build/executor)
	@$(INSTALL) venv $(VENV) $(LOCK) build/executor
	@$(INSTALL) venv $(SAM_VENV) requirements/sam.txt

test-venvs:
	@$(CHECK_PYTHON)
	@$(call LINKS,build/executor)
	@$(INSTALL) venv $(VENV) requirements/test.txt build/executor
	@$(INSTALL) venv $(SAM_VENV) requirements/sam.txt
	@$(INSTALL) venv $(CHECKOV_VENV) requirements/checkov.txt

fuzz-venv:
	@$(CHECK_PYTHON)
	@mkdir -p build/logs
	@$(call LINKS,build/executor)
	@$(INSTALL) venv $(FUZZ_VENV) requirements/fuzz.txt build/executor

docs-venv:
	@$(CHECK_PYTHON)
	@$(INSTALL) venv $(DOCS_VENV) requirements/docs.txt

OURS := build/bench/ours
PUBLIC := build/bench/public
bench-venv:
	@$(CHECK_PYTHON)
	@$(if $(ONLY),"$(PYTHON)" -m benchmarks.names '$(ONLY)')
	@$(INSTALL) venv $(BENCH_VENV) requirements/bench.txt
	@$(INSTALL) venv $(SAM_VENV) requirements/sam.txt
	@$(MAKE) --no-print-directory --silent PYTHON='$(PYTHON)' $(OURS) $(PUBLIC)

# As users install it, not in place; anew whenever it changes. What an earlier build left, a module
# that is gone since among it, must not be installed again.
$(OURS): $(wildcard $(EXECUTOR)/*/*) $(wildcard $(EXECUTOR)/*/*/*) $(EXECUTOR)/pyproject.toml $(BENCH_VENV)/.made-from
	@rm -rf $@ build/bench/sources
	@$(call LINKS,build/bench/sources)
	@$(INSTALL) into $(BENCH_VENV) --no-deps --no-build-isolation --target $@ build/bench/sources
	@touch $@

$(PUBLIC): requirements/bench-public.txt $(BENCH_VENV)/.made-from
	@rm -rf $@
	@$(INSTALL) into $(BENCH_VENV) --no-deps --no-build-isolation --require-hashes --target $@ \
		-r requirements/bench-public.txt
	@touch $@
