# Every target sets up what it needs: Debian packages (as root; others are shown the line to copy) and .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
.NOTPARALLEL:

# With the first one set, Python would compile every library again for every command below.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV

bin := .venv/bin
sources := agent pusher tests app-src

# A file to a worker, for its tests share hosts; in the order of the folders, so that what takes long does not come last.
workers := -n 3 --dist loadfile --no-loadscope-reorder

# What failed beside others is asked once more, alone: a stalled machine is no defect, but it is named.
alone = $(bin)/coverage run -m tests.alone

# For example: make test PYTEST="tests/unit -k wire" (a part of the tests, so no gates);
# make constraints UPGRADE=--upgrade
PYTEST :=
UPGRADE :=
ONLY :=

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { sub(/:.*/, "", $$1); printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup-venv setup-demo setup-test setup-pictures
setup-venv setup-demo setup-test setup-pictures: setup-%:
	@packaging/setup-dev $*

.PHONY: venv
venv: setup-venv ## make .venv, from constraints.txt and nothing else

.PHONY: demo
demo: setup-demo ## deploy, break and roll back the sample application, on this machine and without root
	@packaging/demo

.PHONY: test
test: setup-test lint ## lint, then all tests, then the coverage gates
	@$(bin)/coverage erase
	$(strip $(bin)/coverage run -m pytest $(workers) $(PYTEST))$(if $(PYTEST),, || { (($$? == 1)) && $(alone); })
	@$(bin)/coverage combine --quiet
	$(if $(PYTEST),,@$(MAKE) --no-print-directory coverage)

# The parts that decide who may deploy what, and what happens next, are covered whole.
.PHONY: coverage
coverage: ## hold the last test run against the gates: 90 % of all, 100 % of agent/core and pusher.wire
	@$(bin)/coverage report --fail-under=90
	@$(bin)/coverage report --fail-under=100 --include='agent/core/*,pusher/wire.py,pusher/wire/*'

.PHONY: lint
lint: setup-venv ## style, formatting, types, and which part may import which
	$(bin)/ruff check --quiet $(wildcard $(sources))
	$(bin)/ruff format --quiet --check $(wildcard $(sources))
	$(bin)/mypy --no-error-summary
	$(bin)/lint-imports --no-logo

.PHONY: format
format: setup-venv ## rewrite what can be mended without thinking
	$(bin)/ruff check --fix-only --quiet $(wildcard $(sources))
	$(bin)/ruff format $(wildcard $(sources))

.PHONY: bench
bench: setup-test ## measure: a deploy, a rollback, requests during both
	$(bin)/python -m tests.bench

HOSTS := 1000
.PHONY: bench-fleet
bench-fleet: setup-test ## measure: one publish that HOSTS hosts fetch, from each kind of server
	$(bin)/python -m tests.bench.fleet --hosts $(HOSTS)

.PHONY: bench-page
bench-page: setup-test ## measure the page: its weight, its first picture, many rows, many hosts, a fleet of HOSTS
	$(bin)/python -m tests.bench.page --hosts $(HOSTS)

.PHONY: canary
canary: setup-test ## switch off one defence after the other: its test must notice; ONLY=WORD for some of them
	$(bin)/python -m tests.canary $(ONLY)

.PHONY: field
field: setup-test ## send small applications of every shape as their owners would, on both kinds of host
	$(bin)/python -m tests.field $(ONLY)

# SEED replays: make soak SEED=17
MINUTES := 10
SEED := 0
.PHONY: soak
soak: setup-test ## deploy and roll back for MINUTES while everything goes wrong, chosen by SEED; then check what must hold
	$(bin)/python -m tests.soak --minutes $(MINUTES) --seed $(SEED)

SECONDS := 60
.PHONY: fuzz
fuzz: setup-venv ## read mutated input for SECONDS with every parser of bytes from outside
	$(bin)/python -m tests.fuzz --seconds $(SECONDS) --seed $(SEED)

.PHONY: deb
deb: setup-venv ## build the Debian package, dist/pusher-agent_VERSION_ARCHITECTURE.deb
	@packaging/build-deb

.PHONY: docs
docs: setup-venv ## make the site of the documents, dist/site
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --quiet --strict --config-file packaging/mkdocs.yml

KEY :=
.PHONY: release
release: setup-venv ## build sdist, wheel and package of this commit, and sign their checksums with KEY
	@packaging/release "$(KEY)"

.PHONY: pictures
pictures: setup-pictures ## take the pictures of docs/pictures again, and more of the page into dist/pictures
	$(bin)/python -m tests.docs.pictures
	$(bin)/python -m tests.browser.pictures

.PHONY: constraints
constraints: setup-venv ## write constraints.txt anew after a change of dependencies; UPGRADE=--upgrade takes newer versions
	$(bin)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --annotation-style line --all-extras --group dev $(UPGRADE) --output-file constraints.txt pyproject.toml
	@packaging/setup-dev

.PHONY: clean
clean: ## remove all that make and the tools have made
	rm -rf .venv .venv.lock .demo dist htmlcov .coverage .coverage.* \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(wildcard $(sources)) -name __pycache__ -prune -exec rm -rf {} +
