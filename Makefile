# `make demo` and `make test` need git, make and Python >= 3.11; everything else is installed into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests of one file share what they start, so they stay together; a third worker works while others wait for something.
WORKERS ?= --numprocesses 3 --dist loadfile --no-loadscope-reorder

# The kernels as plain Python: small enough for that, and all of them met.
PLAIN := tests/test_edge_fitting_streaming.py tests/test_edge_fitting_map_statistics.py \
  tests/test_edge_fitting_windows.py::test_arctan_gauss_recovers_its_own_model \
  tests/test_edge_fitting_registration.py::test_a_small_field_and_few_frames_are_registered

.PHONY: help demo test lint types contracts unit nojit bench docs lock clean

help:
	@echo "make demo   simulated Ni-edge scan with a live state-of-charge map in Tiled"
	@echo "make test   lint, types, import contracts and tests"
	@echo "make bench  measured speeds, as ratios against named rivals"
	@echo "make docs   the documentation as a site, in site/"
	@echo "make lock   pin the current releases of all dependencies anew"
	@echo "make clean  remove the virtual environment and caches"

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nimco needs Python 3.11 or later; name one with: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	@echo "installing into $(VENV); this happens once and takes a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: $(READY)
	$(BIN)/nimco demo $(DEMO)

test: lint types contracts unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

contracts: $(READY)
	$(BIN)/lint-imports

unit: $(READY)
	$(BIN)/python -m pytest $(WORKERS) --durations 8 $(TESTS)

nojit: $(READY)
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run --source edge_fitting -m pytest -m "not slow" $(PLAIN)
	$(BIN)/coverage report --include "*kernel*" --show-missing --fail-under 90

bench: $(READY)
	$(BIN)/python -m benchmarks

docs: $(READY)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs site

lock: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-annotate --no-header \
	  --extra dev --extra docs --extra all pyproject.toml --output-file requirements.txt

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
