# Everything from a fresh clone: `make demo`, `make test`, `make test-slow`, `make lint`, `make bench`.
# Each makes the virtual environment in .venv that it needs: with uv if it is there, else with venv and pip.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-deploy celery-suite pictures lint bench bench-quick soak types lock clean

demo: .venv/.demo
	$(BIN)/cgk-tasks demo

PYTEST := $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

# What every change should pass, in a few minutes.
test: .venv/.test
	$(PYTEST) -m "not slow"

# The rest: private servers, killed servers and workers, 3,000 runs under each fault, upgrades, whole tutorials, terminals,
# the dashboard, type checkers, a simulated year.
test-slow: .venv/.test
	$(PYTEST) -m slow

# deploy/ read by Helm's engine, Kubernetes' schemas, Docker Compose, hadolint and systemd-analyze.
test-deploy: .venv/.test .venv/.deploy
	$(BIN)/python -m pytest tests/deploy

# Celery's own tests, taken from the package index, on plain Celery and on us; prints the table of both.
celery-suite: .venv/.test
	$(BIN)/python -m tests.celery_suite

# The pictures of the dashboard in docs/images, light and dark, taken by its tests in a Chromium; some minutes. Needs chromium
# on the PATH. They differ from those before in times and ids: look at them before you commit them.
pictures: .venv/.test
	SCREENSHOTS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -p no:randomly tests/dashboard \
	  tests/gateway/test_progress_bar.py::test_the_page_of_the_docs_shows_how_far_a_run_is_until_it_has_ended

lint: .venv/.test .venv/.lint
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/generate_types.py --check

bench: .venv/.bench
	$(BIN)/python benchmarks/run.py
	$(BIN)/python scripts/quote_results.py

# What most changes may slow down, less of it and once: two minutes.
bench-quick: .venv/.bench
	$(BIN)/python benchmarks/run.py --quick $(foreach one,throughput database_job payloads bulk_send single_send latency \
	  round_trip lateness footprint,--only $(one))

# A day of 1,000,000 runs in an hour; exit 1 if something grows, is lost, or is done twice. A smaller one:
# make soak SOAK="--runs 20000 --tenants 100 --minutes 5"
soak: .venv/.bench
	$(BIN)/python benchmarks/soak.py $(SOAK)

# Write the typed dictionaries, overloads and the events page again from the event models.
types: .venv/.test
	$(BIN)/python scripts/generate_types.py

# Resolve the dependencies of pyproject.toml again, and write uv.lock.
lock:
	uv lock

clean:
	rm -rf .venv .cgk dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# install(groups): the package with its embedded servers, and dependency groups. All is compiled at once: tests start hundreds
# of processes, and where PYTHONDONTWRITEBYTECODE is set each of them would compile it again.
define install
	@if command -v uv >/dev/null 2>&1; then \
	  echo "making .venv with uv"; uv sync -q --compile-bytecode --locked --inexact --python $(PYTHON) --no-default-groups --extra dev $(foreach group,$(1),--group $(group)); \
	else \
	  echo "making .venv with pip"; test -x $(BIN)/python || $(PYTHON) -m venv .venv; \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --upgrade "pip>=25.1"; \
	  $(BIN)/python -m pip install -q --disable-pip-version-check -e ".[dev]" $(foreach group,$(1),--group $(group)); \
	fi
	@$(BIN)/python -m compileall -q cgk_tasks tests
	@touch $@
endef

.venv/.demo: pyproject.toml
	$(call install,)

.venv/.test: pyproject.toml
	$(call install,test)

.venv/.lint: pyproject.toml
	$(call install,test lint)

.venv/.deploy: pyproject.toml
	$(call install,test deploy)

.venv/.bench: pyproject.toml
	$(call install,bench)
