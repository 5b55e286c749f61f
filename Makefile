# sidelong: every target works on a fresh machine with Python >= 3.11, make and git.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help

$(BIN)/sidelong: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group dev --editable .
	touch $@
