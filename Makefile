# The verbs of this project. Each one sets up .venv first if it is missing or older than the lock file.
#
#   make                               what there is
#   make reproduce                     the quick preset, on phantoms: nothing to download
#   make reproduce DRY_RUN=1           only the plan: what is done, and how many hours the rest will take
#   make reproduce PRESET=hippocampus  the real MRI; SOURCE=DIR takes a local copy, CORES=N sets the number of processes

PYTHON ?= python3.11
PRESET ?= quick
SOURCE ?=
STORE  ?=
BENCH  ?=
CORES  ?=
PROFILE ?=
DRY_RUN ?=
JOBS   ?= 2

VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
PEERS  := $(VENV)/.peers
# The notebooks in notebooks/templates are what papermill runs; these are the chapters.
CHAPTERS := $(wildcard notebooks/*.ipynb)
CODE := $(wildcard src tests data_scripts benchmarks notebooks book/_ext)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules
START := $(shell date +%s)

# The bundled Node.js and pyright are used: nothing is fetched at the first run.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PYRIGHT_PYTHON_GLOBAL_NODE := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help
help:
	@echo 'make reproduce   run the experiments of PRESET=$(PRESET), build the book, print the table'
	@echo '                 PRESET=smoke|quick|phantoms|hippocampus|paper  SOURCE=DIR (a local copy of the data)  CORES=N'
	@echo '                 PROFILE=local|gpus|slurm|kubernetes|DIR (where the runs run)'
	@echo '                 DRY_RUN=1 only shows the plan, with the hours to expect from a timed step'
	@echo 'make book        build the book from the stored results into _build/html'
	@echo 'make lab         open the notebooks in JupyterLab'
	@echo 'make notebooks   execute the chapters in notebooks/ anew, store their outputs, renew the README'
	@echo 'make test        everything that checks the project: style, types, tests, notebooks, book'
	@echo 'make bench       speed and memory, side by side with other packages; STORE=1 stores the tables that the book shows,'
	@echo '                 BENCH="--sides 64 --only sample" goes to benchmarks/run.py (BENCH=--help)'
	@echo 'make clean       remove _build, caches and .venv; data/ and runs/ stay (make distclean removes them too)'
	@echo 'The first verb installs into .venv, with $(PYTHON) (another one: PYTHON=/path/to/python3.11).'

.PHONY: reproduce
reproduce: $(STAMP)
	@$(PY) -m reproduction grid --preset "$(PRESET)" $(if $(SOURCE),--source "$(SOURCE)") $(if $(CORES),--cores "$(CORES)") $(if $(PROFILE),--profile "$(PROFILE)") $(if $(DRY_RUN),--dry-run)

.PHONY: book
book: $(STAMP)
	@$(PY) -m reproduction book

.PHONY: lab
lab: $(STAMP)
	@$(PY) -m jupyterlab --notebook-dir=.

.PHONY: notebooks
notebooks: $(STAMP)
	@$(if $(CHAPTERS),$(PY) -m nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False $(CHAPTERS),echo 'no notebooks to execute')
	@$(PY) -m reproduction.report.readme

.PHONY: bench
bench: $(PEERS)
	@$(PY) benchmarks/run.py $(if $(STORE),--store) $(BENCH)

# Each step says what it is; the first that fails ends the run, with its name as the last line.
step = @echo; echo "== $(1) =="; start=$$SECONDS; { $(2); } || { echo "== FAILED: $(1) =="; exit 1; }; echo "== $(1): $$((SECONDS - start)) s =="

.PHONY: test
test: $(STAMP)
	$(call step,style (ruff check),$(PY) -m ruff check $(CODE))
	$(call step,format (ruff format),$(PY) -m ruff format --check $(CODE))
	$(call step,types (pyright),$(PY) -m pyright)
	$(call step,tests and docstring examples (pytest),OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(JOBS) --doctest-modules src tests)
	$(if $(CHAPTERS),$(call step,stored notebooks (nbval),OMP_NUM_THREADS=1 $(PY) -m pytest -q --nbval-lax $(CHAPTERS)))
	$(call step,book,$(PY) -m reproduction book)
	@echo; echo "== all checks passed in $$(( $$(date +%s) - $(START) )) s (book: _build/html/index.html) =="

# .installed is written last, so that an interrupted installation is taken up again. --no-compile halves the time: Python
# compiles what is really imported when it is; but not where it may not keep that, and every process would start anew.
$(STAMP): requirements.lock pyproject.toml
	@command -v "$(PYTHON)" >/dev/null && "$(PYTHON)" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	  || { echo 'error: Python 3.11 with its venv module is needed, and "$(PYTHON)" is not that: install it, or name one: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@echo 'setting up $(VENV): a few minutes the first time'
	@"$(PYTHON)" -m venv $(VENV)
	@$(PY) -m pip install -qq --prefer-binary $(if $(PYTHONDONTWRITEBYTECODE),,--no-compile) -r requirements.lock
	@$(PY) -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

# The packages of the extra `bench` are not in the lock; nothing that is in it may move on their account.
$(PEERS): $(STAMP)
	@echo 'installing the packages to compare with into $(VENV)'
	@$(PY) -m pip install -qq --prefer-binary --no-build-isolation -c requirements.lock --editable '.[bench]'
	@touch $@

.PHONY: clean
clean:
	rm -rf _build $(VENV) .pytest_cache .ruff_cache .hypothesis .snakemake .jupyter_cache src/*.egg-info
	find . -name __pycache__ -type d -not -path './data/*' -not -path './runs/*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean
	rm -rf data runs
