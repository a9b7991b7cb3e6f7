# Two commands for newcomers: `make demo` and `make test`. Everything goes into a virtual
# environment in this folder, made with the python3 that is found; choose another with
# `make test PYTHON=python3.13`. `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
LOWEST_VENV ?= .venv-lowest
DOCS_VENV ?= .venv-docs
RECHUNKER_VENV ?= .venv-rechunker
PYTEST_ARGS ?=
BENCH_ARGS ?=
# How many processes share the tests; each takes up to 2 GB. 0: the tests run in pytest itself.
WORKERS ?= 2

# `-q -q`: pip says nothing but errors.
INSTALL = -m pip install -q -q --disable-pip-version-check
BIN = $(VENV)/bin
# Each process gets a half, in order, so that few fixtures are made twice; who is done takes over.
PYTEST = -m pytest -n $(WORKERS) --dist worksteal
# The stamp holds the interpreter's name, so that another PYTHON makes the environment anew;
# the stamps of what is installed lie beside it and vanish with it.
STAMP = .made-with-$(subst /,_,$(PYTHON))

define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hfzarr needs Python 3.11 \
	or newer and $(PYTHON) is %d.%d: name another, as in make PYTHON=python3.13" % sys.version_info[:2] or 0)'
	@echo "Making a virtual environment: $(@D)"
	@$(PYTHON) -m venv --clear $(@D)
	@touch $@
endef

.PHONY: help demo test lint format types docs docs-check lowest bench bench-full bench-check clean

help:
	@echo "make demo        install hfzarr with the demo's libraries and run 'hfzarr demo'"
	@echo "make test        install the test libraries and run the tests and doctests"
	@echo "make lint        ruff: rules and formatting"
	@echo "make format      ruff: repair what it can"
	@echo "make types       mypy --strict"
	@echo "make docs        build the documentation as a site in build/docs; a warning is an error"
	@echo "make docs-check  run the examples and follow the links of README and docs"
	@echo "make lowest      the tests, with the lowest versions that are supported"
	@echo "make bench       all comparisons with other libraries, at a small size"
	@echo "make bench-full  the same at full size (hours), put into the docs"
	@echo "make bench-check the ratios that README and the docs claim, at a small size"
	@echo "make clean       remove environments, caches and what the demo wrote"

demo: $(VENV)/.demo
	@$(BIN)/hfzarr demo

test: $(VENV)/.test
	@$(BIN)/python $(PYTEST) $(PYTEST_ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/.lint
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(VENV)/.lint
	$(BIN)/mypy

docs: $(DOCS_VENV)/.docs
	@$(DOCS_VENV)/bin/python -m sphinx -W --keep-going -q -j auto -d build/doctrees docs build/docs
	@$(DOCS_VENV)/bin/python ci/docs/check_site.py build/docs
	@echo "The site begins at build/docs/index.html"

docs-check: $(VENV)/.test
	@$(BIN)/python -m pytest tests/test_docs.py

lowest: $(LOWEST_VENV)/.test
	@$(LOWEST_VENV)/bin/python $(PYTEST) $(PYTEST_ARGS)

bench: $(VENV)/.test
	@$(BIN)/python ci/bench/all.py $(BENCH_ARGS)

bench-full: $(VENV)/.test $(RECHUNKER_VENV)/.rechunker
	@$(BIN)/python ci/bench/all.py --size full --docs \
		--rechunker-python $(RECHUNKER_VENV)/bin/python $(BENCH_ARGS)

bench-check: $(VENV)/.test
	@$(BIN)/python ci/bench/all.py --goals $(BENCH_ARGS)

clean:
	rm -rf $(VENV) $(LOWEST_VENV) $(DOCS_VENV) $(RECHUNKER_VENV) build dist hfzarr-demo .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis
	find src tests ci -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/$(STAMP):
	$(make_venv)

$(LOWEST_VENV)/$(STAMP):
	$(make_venv)

$(DOCS_VENV)/$(STAMP):
	$(make_venv)

$(RECHUNKER_VENV)/$(STAMP):
	$(make_venv)

$(VENV)/.demo: $(VENV)/$(STAMP) pyproject.toml
	@echo "Installing hfzarr[demo] into $(VENV)"
	@$(BIN)/python $(INSTALL) -e ".[demo]"
	@touch $@

$(VENV)/.test: $(VENV)/$(STAMP) pyproject.toml
	@echo "Installing hfzarr[test] into $(VENV)"
	@$(BIN)/python $(INSTALL) -e ".[test]"
	@$(BIN)/python $(INSTALL) -e ".[torch]" 2>/dev/null || \
		echo "There is no torch for this Python: the tests that need it are skipped"
	@$(BIN)/python $(INSTALL) -e ".[strangers]" 2>/dev/null || \
		echo "There is no ome-zarr-models for this Python: the tests that need it are skipped"
	@touch $(VENV)/.demo $@

# On top of the test libraries, so that mypy sees the types of everything that is imported.
$(VENV)/.lint: $(VENV)/.test ci/constraints/lint.txt
	@echo "Installing hfzarr[lint] into $(VENV)"
	@$(BIN)/python $(INSTALL) -c ci/constraints/lint.txt -e ".[lint]"
	@touch $@

$(LOWEST_VENV)/.test: $(LOWEST_VENV)/$(STAMP) pyproject.toml ci/constraints/lowest.txt
	@echo "Installing hfzarr[test] with its lowest versions into $(LOWEST_VENV)"
	@$(LOWEST_VENV)/bin/python $(INSTALL) -c ci/constraints/lowest.txt -e ".[test]"
	@touch $@

$(DOCS_VENV)/.docs: $(DOCS_VENV)/$(STAMP) pyproject.toml ci/constraints/docs.txt
	@echo "Installing hfzarr[docs] into $(DOCS_VENV)"
	@$(DOCS_VENV)/bin/python $(INSTALL) -c ci/constraints/docs.txt -e ".[docs]"
	@touch $@

# rechunker has not been ported to zarr 3.
$(RECHUNKER_VENV)/.rechunker: $(RECHUNKER_VENV)/$(STAMP)
	@echo "Installing rechunker into $(RECHUNKER_VENV)"
	@$(RECHUNKER_VENV)/bin/python $(INSTALL) rechunker "zarr<3" "numcodecs<0.16" dask
	@touch $@
