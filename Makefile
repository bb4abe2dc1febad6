# Two commands matter: `make serve` and `make test`. Each sets up what it needs in .venv and does so once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Every process that starts would compile the whole program again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help serve test test-browser check format chaos bench bench-memory bench-jobs bench-page load lock clean fire soak bench-table test-slow

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# pip is told --no-deps: the files hold the whole closure, less what serving must not have (openvino-telemetry).
$(VENV)/.serve: requirements/serve.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/serve.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: requirements/dev.txt requirements/torch.txt $(VENV)/.serve
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/torch.txt
	touch $@

serve: $(VENV)/.serve ## set up and serve on http://127.0.0.1:7860 (ARGS="--port 8000")
	$(BIN)/steadyocr serve $(ARGS)

test: check ## set up, check and run all tests (about 10 minutes on 2 cores)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-browser: $(VENV)/.dev ## the tests of the page in a real browser alone (about 2 minutes on 2 cores)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS) tests/browser

check: $(VENV)/.dev ## formatting, lint, types, layers
	$(BIN)/ruff format --check src tests bench scripts
	$(BIN)/ruff check src tests bench scripts
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## put the code into shape
	$(BIN)/ruff format src tests bench scripts
	$(BIN)/ruff check --fix src tests bench scripts

bench: $(VENV)/.dev ## compare with rapidocr on the same pictures and cores
	$(BIN)/python -m bench.compare $(ARGS)

chaos: $(VENV)/.dev ## the chaos tests in their long form (500 pictures, 200 kills, 50 power cuts)
	STEADYOCR_CHAOS_ITEMS=500 STEADYOCR_CHAOS_KILLS=200 STEADYOCR_CHAOS_CUTS=50 $(BIN)/python -m pytest -m chaos --timeout 3600 $(ARGS)

load: $(VENV)/.dev ## open-loop load at 0.5, 1 and 3 times the measured capacity
	$(BIN)/python -m bench.load $(ARGS)

test-slow: $(VENV)/.dev ## the tests that train for minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

fire: $(VENV)/.dev ## figures under fire: engines killed every 2 s, engines stopped, poison among good pictures
	$(BIN)/python -m bench.fire $(ARGS)

soak: $(VENV)/.dev ## 5000 pictures of random shape, memory plotted (ARGS="--count 300", ARGS="--limit-mb 1024")
	$(BIN)/python -m bench.soak $(ARGS)

bench-table: $(VENV)/.dev ## 1080p, 4K and 5000x3000 one after another, 200 in a row, 50 through 1, 2 and 3 at once
	$(BIN)/python -m bench.table $(ARGS)

bench-jobs: $(VENV)/.dev ## batches: accepted, worked off, large ones, two nodes
	for what in batch submit upload nodes; do $(BIN)/python -m bench.jobs $$what $(ARGS) || exit 1; done

bench-page: $(VENV)/.dev ## what the page adds to the API's own time, in a real browser
	$(BIN)/python -m bench.page $(ARGS)

bench-memory: $(VENV)/.dev ## resident memory over 300 pictures of random size
	$(BIN)/python -m bench.memory $(ARGS)

# Needs uv; the files hold no index address.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --no-header --no-emit-package openvino-telemetry
lock: ## pin the newest versions again
	$(LOCK) --upgrade requirements/serve.in -o requirements/serve.txt
	$(LOCK) --upgrade --override requirements/overrides.txt --constraint requirements/serve.txt requirements/dev.in -o requirements/dev.txt

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
