# make run | test | lint | fix | bench | faults | soak | fuzz

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup run test lint fix bench faults soak fuzz

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Fusebox needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "Python cannot make virtual environments here. Install the package that brings them:"; \
		     echo "  sudo apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: setup
	$(BIN)/fusebox up

# tests wait more than they compute, so there is a process more than cores, up to four; those that
# share what they set up run in one
TEST_PROCESSES ?= $(shell cores=`nproc`; echo $$((cores < 4 ? cores + 1 : 4)))

test: setup
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadscope

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# bench/gpu_*.py are run where there is a GPU, bench/train_bcedge.py before an agent is shipped
bench: setup
	@for script in bench/*.py; do case $$script in bench/_*|bench/soak.py|bench/gpu_*.py|bench/train_bcedge.py) ;; *) $(BIN)/python $$script || exit 1;; esac; done

# processes and stores killed, stopped, replaced and filled up, those that `test` leaves out too;
# and what else is long
faults: setup
	$(BIN)/python -m pytest -m 'long or not long' tests/e2e/faults tests/e2e/machines tests/e2e/test_replacement.py \
		tests/e2e/test_isolation.py tests/e2e/test_blocks.py tests/integration/workers/test_compiling.py \
		tests/integration/workers/test_eager.py tests/unit/fusion/test_compiled.py \
		tests/unit/test_gpu_fusion.py tests/unit/test_gpu_swap.py tests/unit/bench

# some minutes; --quick takes some seconds
soak: setup
	$(BIN)/python bench/soak.py --json bench/results/soak.json

# over all targets together; then what schemathesis finds in as many examples
FUZZ_SECONDS ?= 300
FUZZ_EXAMPLES ?= 100

fuzz: setup
	$(BIN)/python -m tests.fuzz.run $(FUZZ_SECONDS)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest --timeout 600 tests/integration/hostile/test_openapi.py
