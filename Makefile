# make setup   create .venv with everything pinned (first use takes some minutes)
# make setup-tinker   a Tinker server (SkyRL on the CPU) for the tests, into .venv/tinker-server; make test does it, too
# make train   the main job; more settings: make train ARGS='total_steps=5 seed=1'
# make test    lint, types, every test, in two processes (WORKERS=4, or 0 for one)
# make soak    kill and resume runs of four kinds at random moments, hours; fewer: make soak ARGS='one --kills 5 --seed 7'
# make gpu     tests and benchmarks that need a GPU; some of them: make gpu ARGS='tests update'
# make bench   what ajet costs on a CPU, as ratios (experiments/speed); AGAINST=<a speed.json> names what has grown
# make docs    the documentation site, into build/site
# make pages   write the reference pages anew from the code
# make hooks   lint and types before each commit, where pre-commit is installed
#
# PYTHON=python3.11     the interpreter that .venv is made of
# TORCH_SPEC=...        the torch to install, e.g. a local wheel or 'torch==2.13.0+cpu'
# PIP_ARGS=...          more arguments for pip, e.g. an index of CPU builds

PYTHON ?= python3
TORCH_SPEC ?= torch==2.13.0
PIP_ARGS ?=
WORKERS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
LOCKS := requirements/cpu.lock.txt requirements/dev.lock.txt requirements/clients.lock.txt requirements/sweeps.lock.txt requirements/real.lock.txt \
	requirements/tinker.lock.txt
AGENTSCOPE2 := $(VENV)/agentscope2
TINKER_SERVER := $(VENV)/tinker-server
STAMP := $(VENV)/.installed
TINKER_STAMP := $(VENV)/.installed_tinker_server
DOCS_STAMP := $(VENV)/.installed_docs
# A file's tests stay in one process, for they share fixtures; files go in their order, so that the long ones come first.
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 30 --durations-min 5
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --progress-bar off $(PIP_ARGS)

.PHONY: setup setup-tinker train test test-unit soak gpu lint docs pages hooks clean bench

setup: $(STAMP)

$(STAMP): $(LOCKS) requirements/agentscope2.lock.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON): set PYTHON to an interpreter of 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "error: ajet needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1 | head -n 1); set PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (some minutes on first use)"
	@$(PIP) '$(TORCH_SPEC)'
	@$(PIP) --no-deps $(addprefix -r ,$(LOCKS))
	@$(PIP) --no-deps --upgrade --target $(AGENTSCOPE2) -r requirements/agentscope2.lock.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

setup-tinker: $(TINKER_STAMP)

# SkyRL asks for Python 3.12, and runs on 3.11 as well (requirements/README.md).
$(TINKER_STAMP): requirements/tinker_server.lock.txt | $(STAMP)
	@echo "installing a Tinker server into $(TINKER_SERVER)"
	@rm -rf $(TINKER_SERVER)
	@$(PIP) --no-deps --ignore-requires-python --target $(TINKER_SERVER) -r requirements/tinker_server.lock.txt
	@touch $@

train: $(STAMP)
	$(BIN)/python -m ajet.train workflow=werewolves 'trainable_targets=[seer,witch]' $(ARGS)

bench: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.speed.run $(ARGS) $(if $(AGAINST),--against $(AGAINST))

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint setup-tinker
	$(PYTEST) $(ARGS)

test-unit: $(STAMP)
	$(PYTEST) tests/unit $(ARGS)

soak: $(STAMP)
	$(BIN)/python -m recipes.soak $(ARGS)

# Without an environment of its own: what has a GPU has a torch for it.
gpu:
	experiments/gpu/run.sh $(ARGS)

$(DOCS_STAMP): $(STAMP) requirements/docs.lock.txt
	@$(PIP) --no-deps -r requirements/docs.lock.txt
	@touch $@

docs: $(DOCS_STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open build/site/index.html"

pages: $(STAMP)
	$(BIN)/python -m recipes.reference

hooks: $(STAMP)
	@command -v pre-commit >/dev/null || { echo "error: no pre-commit: pip install pre-commit, or pipx install pre-commit"; exit 1; }
	pre-commit install

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
