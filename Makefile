# Each command creates the virtual environment if needed. To use another Python: make demo PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
# Each test file goes to one worker, so that its fixtures are made once.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# ONNX Runtime for the browser, an npm package.
RUNTIME := .venv/onnxruntime-web-1.30.0.tgz

.PHONY: demo static test test-fast stress check check-viewer format clean

demo: .venv/.demo  ## serve the page
	$(BIN)/python app.py

static: .venv/.demo $(RUNTIME)  ## build the page as a folder that needs no server
	$(BIN)/python -m hierseg.page.static --runtime $(RUNTIME) --out static

test: .venv/.dev  ## run every test
	$(PYTEST)

test-fast: .venv/.dev  ## run tests without a server, browser, training or other process: under a minute on two cores
	$(PYTEST) -m "not slow" --ignore tests/page --ignore tests/studies

stress: .venv/.dev  ## test under load and with kills: about ten minutes
	$(BIN)/python -m pytest -s tests/stress/soak.py tests/stress/training.py tests/stress/archive.py

check: .venv/.dev check-viewer  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check-viewer: .venv/.dev  ## lint what runs in the browser
	$(BIN)/oxlint --config .oxlintrc.json hierseg/page tests/page

format: .venv/.dev  ## fix what can be fixed automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv

.venv/bin/python:
	$(PYTHON) -m venv .venv

$(RUNTIME): | .venv/bin/python
	cd .venv && npm pack --silent onnxruntime-web@1.30.0

.venv/.demo: requirements.txt | .venv/bin/python
	@echo "Installing into .venv, once; this takes a minute or two."
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

.venv/.dev: requirements.txt requirements-train.txt requirements-mcp.txt requirements-archive.txt requirements-dev.txt | .venv/bin/python
	@echo "Installing into .venv, once; this takes a minute or two."
	$(BIN)/pip install --quiet -r requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@
