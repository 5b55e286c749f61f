# sidelong: every target works on a fresh machine with Python >= 3.11, make and git.
# The first one that needs it creates .venv from pyproject.toml, at the versions of constraints.txt.
SHELL := /bin/sh
BIN := .venv/bin
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
RECENT := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach python,$(PYTHONS),$(shell $(python) -c '$(RECENT)' 2>/dev/null && echo $(python))))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo stream test peers stubs lint bench bench-curves bench-flood bench-day bench-kafka soak bench-spark score docs site notebook clean

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(BIN)/sidelong ## Find four real attacks in the traffic of a small shop.
	@$(BIN)/sidelong demo

stream: $(BIN)/sidelong ## The same as live traffic: the service on a real Kafka, until Ctrl-C.
	@$(BIN)/python tests/peers Kafka
	@trap '' INT; $(BIN)/python compose/stream.py

test: $(BIN)/sidelong peers ## Run the whole test suite.
	@$(BIN)/pytest

peers: $(BIN)/sidelong ## Make the real Hubble, kube-apiserver and others ready for tests.
	@$(BIN)/python tests/peers

lint: $(BIN)/sidelong ## Check style, formatting and types: ruff, mypy, pyright.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

bench: $(BIN)/sidelong ## Measure every step beside its rivals; write docs/performance.md.
	@$(BIN)/python tests/bench --profile
	@$(BIN)/python tests/bench

bench-curves: $(BIN)/sidelong ## Measure what a flow costs in clusters of 50 to 5,000 workloads.
	@$(BIN)/python tests/bench/curves.py

bench-flood: $(BIN)/sidelong ## Measure memory under a flood of a million new pairs a minute.
	@$(BIN)/python tests/bench/flood.py

bench-day: $(BIN)/sidelong ## Replay 120 million simulated flows of a day, an hour at most.
	@$(BIN)/python tests/bench/day.py 60

bench-kafka: $(BIN)/sidelong peers ## Measure the service over a real Kafka: flows/s, latency, memory.
	@$(BIN)/python tests/bench/kafka_service.py

bench-spark: $(BIN)/sidelong ## Replay 20 million flows alone and on Spark: the same, and how it scales.
	@$(BIN)/python tests/bench/spark_replay.py

soak: $(BIN)/sidelong peers ## Run the service for half an hour, then with Kafka away for five minutes.
	@$(BIN)/python tests/bench/kafka_service.py soak
	@SIDELONG_AWAY_SECONDS=300 $(BIN)/pytest -q tests/test_kafka_away.py

score: $(BIN)/sidelong peers ## Score detection on labelled captures and a live bench (root, half an hour).
	@$(BIN)/python tests/scorecard

stubs: $(BIN)/sidelong ## Write the stubs of the .proto files in ingest/.
	@$(BIN)/python tests/hubble_stubs.py
	@$(BIN)/python tests/mesh_stubs.py

docs: $(BIN)/sidelong ## Write what the pages quote from the program; check every link.
	@$(BIN)/python docs/build.py

site: $(BIN)/sidelong ## Build the documentation as a site that needs no network: build/site.
	@$(BIN)/python docs/site/notebook_pages.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "open build/site/index.html"

notebook: $(BIN)/sidelong ## Start JupyterLab on the notebooks, with the data they use.
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab notebooks \
	  $(if $(filter 0,$(shell id -u)),--allow-root)

clean: ## Remove what was built, .venv included.
	rm -rf .venv .artifacts .bench .peers .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian's python3 lacks ensurepip unless python3-venv is installed: there an environment without
# pip does, filled by the pip or the virtualenv of the system.
$(BIN)/sidelong: pyproject.toml constraints.txt
	@"$(or $(PYTHON),python3)" -c '$(RECENT)' || { \
	  echo "sidelong needs Python 3.11 or later, and found $(or $(PYTHON),none)"; \
	  echo "  try: make PYTHON=/path/to/python3.11"; exit 1; } >&2
	@echo "setting up .venv"
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 \
	  || $(PYTHON) -m virtualenv --quiet --clear .venv 2>/dev/null \
	  || { $(PYTHON) -m venv --clear --without-pip .venv \
	       && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip 2>/dev/null; } \
	  || { rm -rf .venv; echo "$(PYTHON) can make no virtual environment with pip in it"; \
	       echo "  try: install your system's python3-venv package, then make again"; exit 1; } >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python \
	  --constraint constraints.txt --group dev --editable '.[apprise,fast,forest,kubernetes,notebook,s3,spark]'
	@touch $@
