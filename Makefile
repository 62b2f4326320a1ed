# Every target makes its own environment in .venv first; nothing outside the folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_SHOWS := --progress-bar on --disable-pip-version-check
BASE_VENV := .venv-base
BASE_STAMP := $(BASE_VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-base check format bench bench-peers clean

help:
	@echo "make setup   the environment in $(VENV): 7 GB, of it 4 GB CUDA; base install alone 1.2 GB"
	@echo "make demo    set up and run the whole chain on generated data"
	@echo "make test    set up and run the tests"
	@echo "make check   formatting, lint, types, import contracts, house rules"
	@echo "make bench   the benchmarks, ours beside the peer"
	@echo "make clean   remove what these targets made"

setup: $(STAMP)

# trackeval (an oracle of the tests) asks for opencv-python, which needs a display library; ours takes its place, last.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup 1/3: packages to train and to test, into $(VENV): 3 GB are fetched, 7 GB on disk (4 GB of it CUDA)"
	$(BIN)/python -m pip install $(PIP_SHOWS) -c constraints.txt -e '.[train,dev]'
	@echo "setup 2/3: one build of OpenCV"
	$(BIN)/python -m pip uninstall --quiet --yes opencv-python opencv-python-headless
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt opencv-python-headless
	@echo "setup 3/3: compiling what an audit needs, and what was installed"
	$(BIN)/sightline doctor --compile
	touch $@

demo: $(STAMP)
	$(BIN)/sightline demo

# The house rules are tests too, and belong to `check`.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --ignore=tests/test_house_rules.py --ignore=tests/test_public_api.py

test-slow: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m slow

# The promise to who only measures: everything below, without torch installed.
$(BASE_STAMP): pyproject.toml constraints.txt
	test -x $(BASE_VENV)/bin/python || $(PYTHON) -m venv $(BASE_VENV)
	$(BASE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

test-base: $(BASE_STAMP) $(STAMP)
	SIGHTLINE_BASE_PYTHON=$(CURDIR)/$(BASE_VENV)/bin/python $(BIN)/python -m pytest tests/cli/test_base_install.py

check: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_house_rules.py tests/test_public_api.py

format: $(STAMP)
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

bench: $(STAMP) bench-peers
	for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Some peers pin other versions of what we use: they get an environment of their own.
bench-peers: benchmarks/peers.txt
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt

clean:
	rm -rf $(VENV) $(BASE_VENV) .venv-peers demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
