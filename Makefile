# Everything a user needs; `make` alone lists it. Each target sets up .venv when it is not the one of requirements.lock.
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# A first run writes dvc.lock in the order of dvc.yaml, and the same each time.
export PYTHONHASHSEED := 0
# DVC runs a stage with $SHELL, and a service account's is none.
export SHELL
# They would let Python and pip find or install packages elsewhere.
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONUSERBASE PIP_REQUIRE_VIRTUALENV

.DEFAULT_GOAL := help
.PHONY: help repro status autoattack share collect test smoke bench gpu-check check report compare pdf publish explore dag audit environment clean

help:  ## list the targets
	@grep -hE '^[a-z0-9_-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9_-]+):[^#]*## /\1\t/' | expand -t 24

repro: environment  ## fetch the data, run every stage that is not up to date, say where the report is
	python -m stages.repro

status: environment  ## after an edit: which stages `dvc repro` would run
	@python -m stages.repro --quiet code
	dvc status

# Every data set beside MNIST is a target: a file of its name in robacc/datasets.
DATASETS := $(filter-out facts mnist own __init__,$(basename $(notdir $(wildcard robacc/datasets/*.py))))
.PHONY: $(DATASETS)
$(DATASETS): environment
	python -m stages.repro --set 'run.$@=[$@]'
cifar10: ## the same with CIFAR-10 (set ROBACC_CIFAR10 to images of your own, or it is downloaded)
restricted_imagenet_64: ## the same with Restricted ImageNet at 64 pixels (ROBACC_IMAGENET names your folder)
restricted_imagenet: ## the paper's own at 224 pixels; for GPUs
.PHONY: own
own: environment  ## the same with your images: ROBACC_IMAGES names {train,test}/<class>/ of PNG or JPEG, or IDX files
	python -m stages.own

autoattack: environment  ## the same with the whole of AutoAttack on every full-set model of MNIST: half an hour more on two cores
	python -m stages.repro --set 'autoattack.mnist.attacks=[apgd-ce, apgd-t, fab-t, square]' --set 'autoattack.mnist.rest.attacks=[]'

export PART ?= 1/1
share: BEFORE = --part="$$PART"
share: environment  ## PART=2/3: compute the second third of the balls, push it to the DVC remote for `make collect`
	python -m stages.share -- "$$PART"

collect: environment  ## take from the DVC remote what other machines computed, compute the rest, make the report
	python -m stages.repro --pull

test smoke: BEFORE = --needs-git
test: environment  ## run all tests, the whole graph on a small recipe among them
	python -m pytest

smoke: environment  ## run the whole graph on the recipe mnist-smoke in a temporary clone
	python -m pytest tests/test_pipeline.py

bench: BEFORE = --also benchmarks/requirements.txt
bench: environment  ## measure the hot loops beside the peers'; writes benchmarks/
	python -m stages.repro train@mnist-standard train@mnist-linf-0.1
	python -m benchmarks.bench

gpu-check: environment  ## measure steps, precisions and attacks on a GPU in ten minutes (on a CPU what it can); writes benchmarks/gpu/
	python -m stages.repro code fetch@mnist
	python -m benchmarks.gpu_check

check: environment  ## lint, format and type checks
	ruff check .
	ruff format --check .
	mypy

report: environment  ## make the report from what is there, running only what it needs
	python -m stages.repro report

export EXP
compare: environment  ## after dvc exp run: overlay experiments in reports/compare.html (EXP="name1 name2"; without it all of HEAD)
	@python -m stages.compare -- $$EXP

pdf:  ## print the report to reports/report.pdf, with Chromium or Chrome
	@test -e reports/index.html || { echo "make pdf: expected reports/index.html, found none; run make repro first" >&2; exit 1; }
	@browser=$$(command -v chromium || command -v chromium-browser || command -v google-chrome) \
	  || { echo "make pdf: expected chromium or google-chrome, found none; print reports/index.html from another browser" >&2; exit 1; }; \
	profile=$$(mktemp -d); \
	"$$browser" --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --user-data-dir="$$profile" \
	  --no-pdf-header-footer --print-to-pdf=reports/report.pdf "file://$(CURDIR)/reports/index.html" 2>/dev/null; \
	status=$$?; rm -rf "$$profile"; test $$status = 0 && echo "The report: $(CURDIR)/reports/report.pdf"

publish:  ## put the report into public/, a folder for any host of static pages
	@test -e reports/index.html || { echo "make publish: expected reports/index.html, found none; run make repro first" >&2; exit 1; }
	rm -rf public && mkdir public && cp -R reports/. public && touch public/.nojekyll
	@echo "The folder: $(CURDIR)/public"

explore: environment  ## try the published nets of MNIST in a notebook with sliders, without data or training
	python -m pip install --quiet --disable-pip-version-check -c requirements.lock -r notebooks/requirements.txt
	jupyter lab notebooks/explore.ipynb

dag: environment  ## draw the graph of the stages
	dvc dag

audit:  ## look up the packages of requirements.lock in the database of known vulnerabilities
	@$(PYTHON) -E -s -m stages.audit

clean:  ## remove the environment and unfinished work; results and DVC's cache stay
	rm -rf $(VENV) checkpoints .pytest_cache .ruff_cache .mypy_cache .hypothesis dvc_plots
	find . -name __pycache__ -prune -exec rm -rf {} +

# Cheap when .venv is up to date. BEFORE: what a target checks before the installation.
environment:
	@$(PYTHON) -E -s -m stages.install $(BEFORE)
