# `make run` and `make test` are each the whole set-up on a fresh machine with Python 3.11 and make.
PYTHON ?= python3
# What pip installs as torch; a site with GPUs or a mirror of its own gives its build here.
ICD_TORCH ?= torch==2.13.0
PORT ?= 5000
# Processes that run tests; the tests of a file stay together.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test check fast bench ui clean clean-runs
.DELETE_ON_ERROR:

run: $(STAMP)
	$(BIN)/icd run configs/demo.yaml

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --durations 12

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fast: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -n $(JOBS) --dist loadfile

bench: $(STAMP)
	$(BIN)/python -m benchmarks.losses --sizes small
	$(BIN)/python -m benchmarks.training --sizes small

ui: $(STAMP)
	$(BIN)/icd ui --port $(PORT)

# Set-up and caches; runs stay.
clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info

# All runs of this checkout, models too.
clean-runs:
	rm -rf work
	find mlruns -mindepth 1 ! -name .gitkeep -delete

# Of the installed modules most are never imported; Python compiles those that are.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt $(ICD_TORCH)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev,slurm]'
	touch $@
