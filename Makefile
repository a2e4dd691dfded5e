# Everything a user needs; `make` alone lists it. Each target sets up .venv from requirements.lock when that changes.
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# A first run writes dvc.lock in the order of dvc.yaml, and the same each time.
export PYTHONHASHSEED := 0
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help repro test smoke bench check report dag clean

help:  ## list the targets
	@grep -hE '^[a-z]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 10

repro: $(READY)  ## fetch the data, run every stage that is not up to date, say where the report is
	@python -m stages.check
	dvc repro
	@echo "The report: $(CURDIR)/reports/index.html"

test: $(READY)  ## run all tests, the whole graph on a small recipe among them
	python -m pytest

smoke: $(READY)  ## run the whole graph on the recipe mnist-smoke in a temporary clone
	python -m pytest tests/test_pipeline.py

bench: $(READY)  ## measure the hot loops beside the peers'; writes benchmarks/
	python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements.txt
	dvc repro train_standard@mnist train_robust_mnist_linf@0.1
	python -m benchmarks.bench

check: $(READY)  ## lint, format and type checks
	ruff check .
	ruff format --check .
	mypy

report: $(READY)  ## make the report from what is there, running only what it needs
	dvc repro report
	@echo "The report: $(CURDIR)/reports/index.html"

dag: $(READY)  ## draw the graph of the stages
	dvc dag

clean:  ## remove the environment and unfinished work; results and DVC's cache stay
	rm -rf $(VENV) checkpoints .pytest_cache .ruff_cache .mypy_cache .hypothesis dvc_plots
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "expected Python 3.11 or newer, got " + sys.version.split()[0] + "; run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@
