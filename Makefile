# For people and for CI alike. A machine needs make, Python 3.11 or later with pip, and a package registry; nothing else.
#
#   make demo         a desk with runs to look at, on this machine; nothing to configure
#   make test         all tests, on SQLite and PostgreSQL    (make test ARGS="-k resume")
#   make lint         formatting, lint rules, types
#   make bench        the measurements of bench/             (make bench ARGS=...)
#   make faults       kills, freezes, races and outages at length, an hour  (make faults ARGS="--only kills --kills 3000")
#   make screenshots  every page at three widths in both themes, and the README's picture
#   make lock         take the newest versions of all dependencies into requirements-*.txt
#
# The pages are tested in a Chromium. Root on a machine with apt gets Debian's by itself; elsewhere name one (CHROMIUM=/path/to/it),
# or those tests are skipped. With CI=true a missing browser is a failure.
# Another Python than the first on PATH: make PYTHON=python3.13 ...

PYTHON := python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(or $(shell command -v uv 2>/dev/null),.cache/uv/bin/uv)

# Our sources install with their dependencies locked: versions and hashes from a file, then the project without any.
INSTALL := $(UV) pip install --quiet --python $(BIN)/python

# Set on some build machines. Without byte code every process compiles its imports again: half a second of CPU each.
unexport PYTHONDONTWRITEBYTECODE
# An active environment of somebody else's is none of ours.
unexport VIRTUAL_ENV

.PHONY: demo test lint bench faults screenshots lock clean chromium
.DEFAULT_GOAL := test
# The first line that `make demo` prints is the address of the desk, for people and scripts alike.
.SILENT: demo $(VENV)/.demo $(VENV)/.python .cache/uv/bin/uv

demo: $(VENV)/.demo
	$(BIN)/python -m examples.demo $(ARGS)

test: $(VENV)/.dev chromium
	$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict src $(wildcard examples)

bench: $(VENV)/.bench
	$(BIN)/python -m bench $(ARGS)

faults: $(VENV)/.dev
	$(BIN)/python -m tests.faults $(ARGS)

# The folder is ours to ignore; the picture that the README shows is committed.
screenshots: $(VENV)/.dev chromium
	$(BIN)/python -m tests.browser.screenshots --folder build/screenshots --picture docs/images/desk.png $(ARGS)

# uv.lock holds the same and names download hosts, which are each machine's own business: it does not stay.
lock: | $(UV)
	$(UV) lock --quiet --upgrade --python $(PYTHON)
	$(EXPORT) --extra server --no-dev -o requirements-demo.txt
	$(EXPORT) --all-extras --group dev -o requirements-dev.txt
	$(EXPORT) --all-extras --group dev --group bench -o requirements-bench.txt
	rm uv.lock
EXPORT = $(UV) export --quiet --frozen --no-emit-project --no-annotate --no-header --python $(PYTHON)

clean:
	rm -rf $(VENV) .cache build dist

# --- how it gets there -----------------------------------------------------------------------------------------------
# One environment; a stamp says which lock file it has been given. Running again costs make's look at a few dates.

$(VENV)/.demo $(VENV)/.dev $(VENV)/.bench: $(VENV)/.%: requirements-%.txt pyproject.toml $(VENV)/.python
	$(INSTALL) --require-hashes -r $<
	$(INSTALL) --no-deps -e .
	@touch $@

$(VENV)/.python: | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
	@touch $@

.cache/uv/bin/uv:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target .cache/uv uv

# Without what it only recommends: a third of the download. A machine that cannot have it still runs all other tests.
APT = DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300
chromium:
	@if command -v "$${CHROMIUM:-chromium}" >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1 || [ "$$(id -u)" != 0 ]; \
	then exit 0; fi; \
	echo "Installing chromium, for the tests of the pages"; \
	{ $(APT) update && $(APT) install -y --no-install-recommends chromium fonts-liberation fonts-dejavu-core; } >/dev/null || \
	echo "It cannot be installed here; the tests of the pages will say so"
