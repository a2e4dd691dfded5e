# Everything a user needs; `make` alone lists it. Each target sets up .venv from requirements.lock when that changes.
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# A first run writes dvc.lock in the order of dvc.yaml, and the same each time.
export PYTHONHASHSEED := 0
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help repro status autoattack share collect test smoke bench gpu-check check report dag clean

help:  ## list the targets
	@grep -hE '^[a-z0-9_-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9_-]+):[^#]*## /\1\t/' | expand -t 24

repro: $(READY)  ## fetch the data, run every stage that is not up to date, say where the report is
	@python -m stages.check
	dvc repro
	@echo "The report: $(CURDIR)/reports/index.html"

status: $(READY)  ## after an edit: which stages `dvc repro` would run
	@python -m stages.check
	dvc repro --quiet code
	dvc status

# Every data set beside MNIST is a target: a file of its name in robacc/datasets.
DATASETS := $(filter-out facts mnist __init__,$(basename $(notdir $(wildcard robacc/datasets/*.py))))
.PHONY: $(DATASETS)
$(DATASETS): $(READY)
	@python -m stages.check
	dvc exp run -S 'run.$@=[$@]'
	@echo "The report: $(CURDIR)/reports/index.html"
cifar10: ## the same with CIFAR-10 (set ROBACC_CIFAR10 to images of your own, or it is downloaded)
restricted_imagenet_64: ## the same with Restricted ImageNet at 64 pixels (ROBACC_IMAGENET names your folder)
restricted_imagenet: ## the paper's own at 224 pixels; for GPUs

autoattack: $(READY)  ## the same with the whole of AutoAttack on every full-set model of MNIST: half an hour more on two cores
	@python -m stages.check
	dvc exp run -S 'autoattack.mnist.attacks=[apgd-ce,apgd-t,fab-t,square]' -S 'autoattack.mnist.rest.attacks=[]'
	@echo "The report: $(CURDIR)/reports/index.html"

PART ?= 1/1
# The balls that this machine trains and attacks: of n machines, every n-th. A ball's stages stay together.
SHARE = awk -v part=$(firstword $(subst /, ,$(PART))) -v of=$(lastword $(subst /, ,$(PART))) \
  'match($$0, /^(train|train_judges|size_sweep|evaluate|autoattack)(_[a-z0-9_]+)?@/) { \
     ball = substr($$0, RLENGTH + 1); if (!(ball in number)) number[ball] = n++; if (number[ball] % of == part - 1) print }'

share: $(READY)  ## PART=2/3: compute the second third of the balls, push it to the DVC remote for `make collect`
	@python -m stages.check
	dvc repro --pull code $$(dvc stage list --name-only | grep '^fetch')
	set -e; for stage in $$(dvc stage list --name-only | $(SHARE)); do dvc repro --pull -s $$stage; done
	dvc push --run-cache

collect: $(READY)  ## take from the DVC remote what other machines computed, compute the rest, make the report
	@python -m stages.check
	dvc repro --pull
	@echo "The report: $(CURDIR)/reports/index.html"

test: $(READY)  ## run all tests, the whole graph on a small recipe among them
	python -m pytest

smoke: $(READY)  ## run the whole graph on the recipe mnist-smoke in a temporary clone
	python -m pytest tests/test_pipeline.py

bench: $(READY)  ## measure the hot loops beside the peers'; writes benchmarks/
	python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements.txt
	dvc repro train@mnist-standard train@mnist-linf-0.1
	python -m benchmarks.bench

gpu-check: $(READY)  ## measure steps, precisions and attacks on a GPU in ten minutes (on a CPU what it can); writes benchmarks/gpu/
	dvc repro code fetch@mnist
	python -m benchmarks.gpu_check

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
