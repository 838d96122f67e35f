# The verbs of this project. Each one sets up .venv first if it is missing or older than the lock file.
#
#   make                               what there is
#   make reproduce                     the quick preset, on phantoms: nothing to download
#   make reproduce DRY_RUN=1           only the plan: what is done, and how many hours the rest will take
#   make reproduce PRESET=hippocampus  the real MRI; SOURCE=DIR takes a local copy, CORES=N sets the number of processes

# Empty: the first of these that is suitable. The lock needs $(SUITABLE).
PYTHON ?=
PYTHONS := python3.11 /usr/bin/python3.11 /usr/local/bin/python3.11 python3
SUITABLE := Python 3.11.2 or a later 3.11, with its venv module
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

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules
START := $(shell date +%s)

# What is given to make reaches a recipe as a variable of its shell, so that any name of a file may stand in it.
export PYTHON PRESET SOURCE CORES PROFILE
# Kernels are started by the interpreter that asks for one, whatever kernels the user has; and the sources are those of
# this folder, also where it was copied or moved with its .venv.
export JUPYTER_PATH := $(CURDIR)/src/reproduction/jupyter$(if $(JUPYTER_PATH),:$(JUPYTER_PATH))
export PYTHONPATH := $(CURDIR)/src
# Without a home that can be written, what keeps caches there keeps them here.
ifneq ($(shell [ -d "$${HOME:-}" ] && [ -w "$${HOME:-}" ] && echo yes),yes)
export HOME := $(CURDIR)/$(VENV)/home
endif

# The bundled Node.js and pyright are used: nothing is fetched at the first run.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PYRIGHT_PYTHON_GLOBAL_NODE := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help
help:
	@echo 'make reproduce   run the experiments of PRESET=$(PRESET), build the book, print the table'
	@echo '                 PRESET=smoke|quick|phantoms|hippocampus|paper  SOURCE=DIR (a local copy of the data)  CORES=N'
	@echo '                 PROFILE=local|gpus|slurm|DIR (where the runs run)'
	@echo '                 DRY_RUN=1 only shows the plan, with the hours to expect from a timed step'
	@echo 'make book        build the book from the stored results into _build/html'
	@echo 'make pdf         build the book and print it into _build/noisyseg.pdf; takes chromium, on Debian: apt install chromium'
	@echo 'make lab         open the notebooks in JupyterLab'
	@echo 'make notebooks   execute the chapters in notebooks/ anew, store their outputs, renew the README'
	@echo 'make test        everything that checks the project: style, types, tests, notebooks, book'
	@echo 'make bench       speed and memory, side by side with other packages; STORE=1 stores the tables that the book shows,'
	@echo '                 BENCH="--sides 64 --only sample" goes to benchmarks/run.py (BENCH=--help)'
	@echo 'make clean       remove _build, caches and .venv; data/ and runs/ stay (make distclean removes them too)'
	@echo 'The first verb installs into .venv, with $(SUITABLE) (name one: PYTHON=/path/to/python3.11).'

.PHONY: reproduce
reproduce: $(STAMP)
	@$(PY) -m reproduction grid --preset "$$PRESET" $${SOURCE:+--source "$$SOURCE"} $${CORES:+--cores "$$CORES"} $${PROFILE:+--profile "$$PROFILE"} $(if $(DRY_RUN),--dry-run)

.PHONY: book
book: $(STAMP)
	@$(PY) -m reproduction book

.PHONY: pdf
pdf: book
	@$(PY) -m reproduction pdf

.PHONY: lab
lab: $(STAMP)
	@root=(); if [ "$$(id -u)" = 0 ]; then \
	  root=(--allow-root --no-browser); echo 'as root, as in a container: JupyterLab listens on 127.0.0.1 alone and asks for its token'; \
	fi; $(PY) -m jupyterlab --notebook-dir=. --ip=127.0.0.1 "$${root[@]}"

.PHONY: notebooks
notebooks: $(STAMP)
	@$(if $(CHAPTERS),$(PY) -m nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False $(CHAPTERS),echo 'no notebooks to execute')
	@$(PY) -m reproduction.report.readme

.PHONY: bench
bench: $(PEERS)
	@$(PY) benchmarks/run.py $(if $(STORE),--store) $(BENCH)

# Each step says what it is; the first that fails ends the run, with its name as the last line.
step = @echo; echo "== $(1) =="; start=$$SECONDS; { $(2); } || { echo "== FAILED: $(1) =="; exit 1; }; echo "== $(1): $$((SECONDS - start)) s =="

# Files with slow tests go first (tests/conftest.py), each to one process, which makes what its tests share once.
ACROSS := -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(STAMP)
	$(call step,style (ruff check),$(PY) -m ruff check)
	$(call step,format (ruff format),$(PY) -m ruff format --check)
	$(call step,types (pyright),$(PY) -m pyright)
	$(call step,tests and docstring examples (pytest),OMP_NUM_THREADS=1 $(PY) -m pytest -q $(ACROSS) --doctest-modules src tests)
	$(if $(CHAPTERS),$(call step,stored notebooks (nbval),OMP_NUM_THREADS=1 $(PY) -m pytest -q $(ACROSS) --nbval-lax $(CHAPTERS)))
	@echo; echo "== all checks passed in $$(( $$(date +%s) - $(START) )) s (book: _build/html/index.html) =="

# .installed is written last, so that an interrupted installation is taken up again. --no-compile halves the time: Python
# compiles what is really imported when it is; but not where it may not keep that, and every process would start anew.
$(STAMP): requirements.lock pyproject.toml
	@suitable= tried=; \
	for python in "$${PYTHON:-}" $(if $(PYTHON),,$(PYTHONS)); do \
	  [ -n "$$python" ] || continue; \
	  found=$$("$$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || found=; \
	  case $$found in \
	    '') why='does not run' ;; \
	    3.11.[01]) why="is Python $$found" ;; \
	    3.11.*) "$$python" -c 'import ensurepip, venv' 2>/dev/null && { suitable=$$python; break; }; \
	            why="is Python $$found without its venv module (on Debian: apt install python3.11-venv)" ;; \
	    *) why="is Python $$found" ;; \
	  esac; \
	  tried="$$tried$${tried:+; }\"$$python\" $$why"; \
	done; \
	[ -n "$$suitable" ] || { echo "error: $(SUITABLE), is needed; $$tried. Install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	echo "setting up $(VENV) with $$suitable: a few minutes the first time"; \
	mkdir -p "$$HOME"; \
	"$$suitable" -m venv $(VENV)
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
	rm -rf _build build dist $(VENV) .pytest_cache .ruff_cache .hypothesis .snakemake .jupyter_cache src/*.egg-info
	find . -name __pycache__ -type d -not -path './data/*' -not -path './runs/*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean
	rm -rf data runs
