# Every target sets up what it needs in .venv first.
#
#   TORCH   pip's arguments for a torch build of your choice, for example the CPU-only one; by default whatever pip gives
#   PYTHON  the interpreter that .venv is made of

PYTHON ?= python3
TORCH ?=

VENV := .venv
RUN := $(VENV)/bin
PYTEST := $(RUN)/python -m pytest
# one thread a process: threads that wait for each other on busy cores cost more than they bring
TESTS := OMP_NUM_THREADS=1 $(PYTEST) -n auto

# the tests of what meets torch most closely
MEETS_TORCH := tests/modules tests/models tests/explain tests/training tests/kernels
# the oldest torch that pyproject.toml allows, whose own warnings are no errors;
# === because == would take a build like 2.13.0+cpu too, which torchvision from PyPI does not fit
OLDEST := $(shell sed -n 's/^ *"\(torch\|torchvision\)>=\(.*\)",$$/\1===\2.0/p' pyproject.toml)

.PHONY: demo test test-slow test-poisoned test-oldest check-kernels lint types bench docs exports clean

demo: $(VENV)/.demo
	$(RUN)/python -m abn_fast quickstart --out runs/demo

test: $(VENV)/.test
	$(TESTS)

test-slow: $(VENV)/.test
	$(TESTS) -m slow -W default

# memory that nobody wrote is NaN
test-poisoned: $(VENV)/.test
	$(TESTS) --poison $(MEETS_TORCH)

test-oldest:
	$(MAKE) .venv-oldest/.test VENV=.venv-oldest TORCH="$(OLDEST)"
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n auto -W default $(MEETS_TORCH)

check-kernels: $(VENV)/.test
	OMP_NUM_THREADS=1 $(RUN)/python -m abn_fast kernels check --jobs 2

lint: $(VENV)/.test
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

types: $(VENV)/.test
	$(RUN)/mypy

bench: $(VENV)/.test
	$(RUN)/python -m abn_fast bench --quick

exports: $(VENV)/.test
	OMP_NUM_THREADS=1 $(PYTEST) -m slow -s tests/cli/test_export_formats.py

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .venv-oldest build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH),$(RUN)/pip install $(TORCH))
	touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml setup.py
	$(RUN)/pip install -e '.[data]'
	touch $@

$(VENV)/.docs: $(VENV)/.torch pyproject.toml setup.py
	$(RUN)/pip install -e '.[docs]'
	touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml setup.py
	$(RUN)/pip install -e '.[dev]'
	command -v chromium >/dev/null || timeout 300 apt-get install -y --no-install-recommends chromium >/dev/null 2>&1 || \
		echo "no Chromium: the tests of the demo's page in a browser are skipped"
	touch $@
