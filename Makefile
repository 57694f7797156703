# Everything runs in .venv, made from nothing but Python, a C++ compiler and make.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
OUT ?= out/gpu
TORCH := $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
NATIVE := CMakeLists.txt $(shell find kernels -type f)
SOURCES := $(shell find kernels tests examples -name '*.h' -o -name '*.cpp' -o -name '*.cu')
STAMP := $(VENV)/.installed
EDITABLE := -C cmake.define.FASTVAE_WERROR=ON -C cmake.define.FASTVAE_NATIVE=ON -C cmake.define.FASTVAE_CUDA=OFF --editable

.PHONY: install build demo test test-integrations bench codegen gpu-check lint format clean

install: $(STAMP)

# Without build isolation: the library is compiled against the torch that it will run with. The CUDA library is left to
# the tests, which compile it for one architecture where nvcc is found.
$(STAMP): pyproject.toml $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH) "scikit-build-core>=0.11" cmake ninja
	$(BIN)/python -m pip install --quiet --no-build-isolation $(EDITABLE) ".[dev]"
	touch $@

# The native library again, with what it needs already there: compiles what has changed.
build:
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation $(EDITABLE) .
	touch $(STAMP)

demo: install
	$(BIN)/fastvae demo

test: install
	$(BIN)/python -m pytest -n auto

# The libraries that are patched, in an environment of their own over that of `make install`.
INTEGRATIONS := $(VENV)-integrations
test-integrations: $(INTEGRATIONS)/.installed
	$(INTEGRATIONS)/bin/python -m pytest tests/integrations

$(INTEGRATIONS)/.installed: tests/integrations/requirements.txt $(STAMP)
	$(PYTHON) -m venv $(INTEGRATIONS)
	cd $(INTEGRATIONS)/lib/*/site-packages && $(abspath $(BIN))/python -c "import sysconfig; \
	  print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" > development.pth
	$(INTEGRATIONS)/bin/python -m pip install --quiet $(TORCH) -r tests/integrations/requirements.txt
	touch $@

bench: install
	$(BIN)/python -m benchmarks --suite full --out out/bench

# What the kernels become for GPUs that need not be here: Triton's, and CUDA's where nvcc is found.
codegen: install
	PYTHONPATH=. $(BIN)/python tests/codegen/table.py

# On a machine whose PYTHON has torch for its GPU, Triton and what the tests import. Installs nothing, needs no network,
# takes eight minutes at most.
gpu-check:
	$(PYTHON) -m benchmarks.gpu_check $(OUT)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/layers.py
	$(BIN)/clang-format --dry-run --Werror $(SOURCES)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(SOURCES)

clean:
	rm -rf $(VENV) $(INTEGRATIONS) build out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
