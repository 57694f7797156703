# Everything runs in .venv, made from nothing but Python, a C++ compiler and make.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
OUT ?= out/gpu
TORCH := $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
NATIVE := CMakeLists.txt $(shell find kernels -type f)
STAMP := $(VENV)/.installed

.PHONY: install demo test bench gpu-check lint format clean

install: $(STAMP)

# Without build isolation: the library is compiled against the torch that it will run with.
$(STAMP): pyproject.toml $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH) "scikit-build-core>=0.11" cmake ninja
	$(BIN)/python -m pip install --quiet --no-build-isolation -C cmake.define.FASTVAE_WERROR=ON -C cmake.define.FASTVAE_NATIVE=ON --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/fastvae demo

test: install
	$(BIN)/python -m pytest

bench: install
	$(BIN)/python -m benchmarks --suite full --out out/bench

# On a machine whose PYTHON has torch for its GPU, Triton and what the tests import. Installs nothing, needs no network.
gpu-check:
	$(PYTHON) -m benchmarks.gpu_check $(OUT)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(shell find kernels -name '*.h' -o -name '*.cpp')

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(shell find kernels -name '*.h' -o -name '*.cpp')

clean:
	rm -rf $(VENV) build out .pytest_cache .mypy_cache .ruff_cache .hypothesis
