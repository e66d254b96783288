# Few targets, the same for people and for CI. `make demo` and `make test` do all their set-up themselves.
#
#   make demo      the whole story on this machine, in under two minutes
#   make test      the tests (CI=true: all of them; options with ARGS='-k archive')
#   make long      the tests that CI runs in part, whole: 20,000 histories of an archive, 100 kills of the suite,
#                  a kill at each step of Archive on a real array and of a migration, the main job on 1 GiB of files,
#                  minutes of random texts for the wire, thousands of random requests to the API
#   make coverage  the tests that are not slow, and which lines they reach
#   make mutants   the conformance suite against every broken backend and driver; prints the score
#   make check     format, lint, types, layers, dead code, public API, packaging, docs
#   make bench     the benchmarks
#   make docs      the documentation as a web site, in site/
#   make setup     only the set-up
#   make clean     remove what the targets above made

PYTHON ?= python3
# CI has two cores; a third of the time a test waits for a guest, a deadline or a disk. With a third worker the
# slow ones take 20 minutes instead of 27, all of CI 40. A mutant is a few checks, and who survives is tried once
# more, alone.
JOBS ?= 3
SLOW_JOBS ?= 3
MUTANT_JOBS ?= 3
ARGS ?=
BIN := .venv/bin

PACKAGES := transfer_objects core drivers simulators conformance api cli
# Directories beside the package, as far as there is code in them (mypy stumbles over one without).
BESIDE := $(foreach directory,tests bench,$(if $(wildcard $(directory)/*.py),$(directory)))
# `bollard` maps to the repository root, which type checkers understand only through a directory of that name.
MYPY := MYPYPATH=.typing $(BIN)/mypy

# libvirt-python is compiled against the machine's libvirt; without libvirt-dev the rest still works.
LIBVIRT = $(shell pkg-config --exists libvirt && echo ,libvirt)

# Debian keeps mkfs and debugfs where an ordinary user's PATH does not look.
export PATH := $(PATH):/usr/sbin:/sbin
export PYTHON
# Material prints half a screen about the future of MkDocs on every run; pyproject.toml pins both.
export NO_MKDOCS_2_WARNING := 1

.PHONY: setup demo test long coverage check mutants bench docs clean
.DELETE_ON_ERROR:

setup: .make/venv

demo: setup
	@$(BIN)/bollard demo

# A developer's run leaves the tests marked `slow` and the mutants to CI.
SLOW := $(filter true,$(CI))
# What the slow tests have shown of drivers without a defect, for the mutants.
VERDICTS := .make/verdicts

test: setup .typing/bollard
	$(BIN)/pytest -n $(JOBS) -m "not slow" $(ARGS)
ifdef SLOW
	rm -rf $(VERDICTS) && mkdir -p $(VERDICTS)
	BOLLARD_VERDICTS=$(abspath $(VERDICTS)) $(BIN)/pytest -n $(SLOW_JOBS) -m slow $(ARGS)
	$(BIN)/python tests/mutants/run.py --jobs $(MUTANT_JOBS) --verdicts $(VERDICTS)
endif

# Not in CI: it costs 70 % more time, six minutes of a budget of 45, and nobody fails by it. The slow tests are
# left out: they show no line that the others do not reach.
coverage: setup .typing/bollard
	$(BIN)/pytest -n $(JOBS) -m "not slow" --cov --cov-report=term:skip-covered $(ARGS)

check: setup .typing/bollard
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(MYPY) -m bollard $(PACKAGES:%=-p bollard.%)
	$(MYPY) $(BESIDE)
	$(BIN)/lint-imports --no-logo
	$(BIN)/vulture
	$(BIN)/pytest -q tests/test_public_api.py tests/test_import.py tests/test_packaging.py tests/test_repository.py
	$(BIN)/towncrier build --draft --version next >/dev/null
	$(BIN)/mkdocs --quiet build --strict

long: setup
	BOLLARD_LONG=1 $(BIN)/pytest -n $(SLOW_JOBS) -m slow tests/archive/test_archive_histories.py tests/archive/test_archive_histories_real.py tests/conformance/test_kill_lab.py \
	  tests/snapshots/test_snapshot_kill.py tests/snapshots/test_migration_kill.py tests/service tests/acceptance \
	  tests/drivers/primary/rbd/test_rbd_conformance.py tests/drivers/primary/iscsi_ssh/test_iscsi_ssh_conformance.py \
	  tests/drivers/secondary/test_real_conformance.py
	BOLLARD_LONG=1 $(BIN)/pytest -n $(SLOW_JOBS) tests/wire tests/api/test_api_schemathesis.py

mutants: setup
	$(BIN)/python tests/mutants/run.py --jobs $(MUTANT_JOBS) --json conformance/mutation_score.json

bench: setup
	@set -e; for script in bench/bench_*.py bench/compare.py; do echo "== $$script"; $(BIN)/python "$$script"; done

docs: setup
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv .make .typing build dist site bollard.egg-info .coverage .coverage.* .hypothesis .*_cache
	find $(PACKAGES) tests bench examples -name __pycache__ -prune -exec rm -rf {} +

# Exit code 3 means: go on without the system packages. No stamp then, so the next run looks again.
.make/system: scripts/setup-system.sh
	@mkdir -p $(@D)
	@scripts/setup-system.sh && touch $@ || [ $$? -eq 3 ]

.make/venv: pyproject.toml | .make/system
	@mkdir -p $(@D)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Bollard needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev$(LIBVIRT)]'
	@touch $@

.typing/bollard:
	@mkdir -p $(@D)
	@ln -sfn .. $@
