# Needs Python 3.11 or newer with venv, and make. `make help` lists what there is.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo test test-all lint clean

help:
	@echo "make demo      make $(VENV), install, and train on the sample: runs/demo; the command is then $(BIN)/resnets"
	@echo "make test      linter, format, types, and the tests that take seconds"
	@echo "make test-all  the same, and the tests that take minutes"
	@echo "make lint      linter, format and types alone"
	@echo "make clean     remove $(VENV) and what tools left behind; runs/ stays"
	@echo "PYTHON=python3.12 chooses another Python"

demo: $(VENV)/train.stamp
	$(BIN)/resnets demo
	@echo "the command lies at $(BIN)/resnets; to have it on the path: . $(BIN)/activate"

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m ''

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# A stamp is newer than pyproject.toml once what it says is installed. Both installs are editable, and dev contains train.

$(VENV)/python.stamp:
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed: make PYTHON=python3.12' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/torch.stamp: $(VENV)/python.stamp
	index=$$($(BIN)/python tools/torch_index.py) && $(PIP) install $${index:+--extra-index-url $$index} torch torchvision
	touch $@

$(VENV)/train.stamp: $(VENV)/torch.stamp pyproject.toml
	$(PIP) install --editable '.[train]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/torch.stamp pyproject.toml
	$(PIP) install --editable '.[dev]'
	touch $(VENV)/train.stamp $@
