# From a bare Python 3.11 with pip and venv:  make demo  |  make test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RIVALS := build/rivals
FUZZ := geojson unzip answer items collection cube config card hrefs vectors
SECONDS ?= 300

.PHONY: demo test test-slow test-browser lint audit soak bench bench-speed bench-rivals picture lock lock-cpu clean

demo: $(READY)  ## scan the built-in synthetic scenes, print planted against found mines
	$(BIN)/mining-scan aois/demo.geojson --catalog demo --out runs/demo
	$(BIN)/python docs/make_picture.py runs/demo runs/demo/picture.png

test: lint  ## lint, types, layer order, and all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(READY)  ## the tests that take minutes each
	$(BIN)/python -m pytest -m slow

test-browser: $(READY)  ## install Debian's Chromium where there is none, and test the pages in it
	@command -v chromium >/dev/null || (apt-get update -q && apt-get install -qy chromium)
	$(BIN)/python -m pytest tests/browser

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml scanner training

audit: $(READY)  ## known flaws of the locked packages, where their database is reached
	$(BIN)/python -m tests.security.audit

soak: $(READY)  ## 520 tiles with random faults and kills, then each parser fuzzed: two hours
	$(BIN)/python -m tests.benchmarks.soak --tiles 520 --seed 1 --out build/soak.md
	@for target in $(FUZZ); do $(BIN)/python -m tests.fuzz.run $$target --seconds $(SECONDS) || exit 1; done

bench: $(READY)  ## measured recall, seams, memory and speed; figures are kept in docs/measurements.md
	$(BIN)/python -m tests.benchmarks.planted_scars
	$(BIN)/python -m tests.benchmarks.seams
	$(BIN)/python -m tests.benchmarks.memory
	$(BIN)/python -m tests.benchmarks.scl_mask
	$(BIN)/python -m tests.benchmarks.speed --quick

bench-speed: $(READY)  ## speed beside the plain way, public tools and the bare network: 20 minutes
	$(BIN)/python -m tests.benchmarks.speed --out build/speed.md

bench-rivals: $(READY)  ## the public tools that bench-speed runs against, in a folder of their own
	$(BIN)/python -m venv $(RIVALS)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	    > "$$($(RIVALS)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main.pth"
	$(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check \
	    geoai-py==0.40.1 terratorch==1.2.11 torchgeo==0.8.1

picture: $(READY)  ## draw the README's picture again from the demo's run
	$(BIN)/python docs/make_picture.py runs/demo docs/demo.png

lock: $(READY)  ## resolve the dependencies again
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	    --generate-hashes --quiet --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra fast --universal --python-version 3.11 \
	    --constraint requirements.lock --generate-hashes --quiet --output-file deploy/requirements.lock
	echo 'hatchling>=1.25' | $(BIN)/uv pip compile - --universal --python-version 3.11 \
	    --constraint requirements.lock --generate-hashes --quiet --output-file deploy/build.lock

lock-cpu: $(READY)  ## the slim image's packages: torch without CUDA, from PyTorch's own index
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --extra fast --python-platform x86_64-manylinux_2_28 --python-version 3.11 \
	    --torch-backend cpu --emit-index-url --constraint deploy/requirements.lock \
	    --generate-hashes --quiet --output-file deploy/requirements-cpu.lock

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
