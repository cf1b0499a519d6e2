# The only entry points. `make run` and `make test` install what is missing and can be repeated.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# Root is needed to load BPF programs; without it only the readers of /proc run.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
export PYTHON

.PHONY: run test check live matrix bench docs build setup wheel clean

run: build ## start the agent; ARGS="--listen …" is passed on
	@$(if $(SUDO),echo "sudo is needed to load BPF programs and to write /var/lib/huatuo")
	@$(SUDO) $(BIN)/huatuo run $(ARGS)

test: dev build ## all tests that this machine can run; the summary says what was skipped and why
	@$(if $(SUDO),echo "sudo is needed by the live tests: they load BPF programs")
	@$(SUDO) $(PYTEST) $(ARGS)

check: dev build ## format, lint, types, architecture; no root, under two minutes
	$(BIN)/ruff format --check src tests bench deploy hatch_build.py
	$(BIN)/ruff check src tests bench deploy hatch_build.py
	$(BIN)/mypy
	@if command -v clang-format >/dev/null; then \
		git ls-files '*.bpf.c' '*.bpf.h' '*.c' | xargs clang-format --dry-run -Werror; \
		else echo "clang-format is not installed: C is not checked (scripts/setup --tests)"; fi
	$(PYTEST) -q -m "not live" tests/test_architecture.py tests/test_docs.py tests/test_deploy.py

live: dev build ## only the tests that use the real kernel
	@$(SUDO) $(PYTEST) -m live $(ARGS)

matrix: dev build ## check and live tests on Debian's 5.10, 6.1, 6.12 and 7.x in VMs; KERNELS="6.1 …"
	$(BIN)/python -m tests.matrix test $(KERNELS)

bench: dev build ## cost and speed beside the tools a user would pick instead
	$(SUDO) $(BIN)/python -m bench $(ARGS)

docs: dev build ## regenerate the references below docs/ from the code
	COLUMNS=100 $(BIN)/python docs/generate.py

build: .venv/.run
	@$(BIN)/python hatch_build.py

wheel: .venv/.dev ## dist/*.whl with the compiled BPF objects
	$(BIN)/python -m pip wheel -q --no-deps -w dist .

dev: .venv/.dev
	@$(BIN)/python hatch_build.py --tests
.PHONY: dev

.venv/.run: pyproject.toml scripts/setup
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; install python3.11 (or later)"; exit 1; }
	@scripts/setup
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing Python packages into .venv"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@$(BIN)/python -c 'from huatuo.kernel.libbpf import lib; lib()' 2>/dev/null || \
		{ echo "this system's libbpf is older than 1.0: taking one from PyPI"; \
		$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps pylibbpf; }
	@touch $@

.venv/.dev: .venv/.run
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[dev]"
	@touch $@

clean:
	rm -rf .venv build dist
	find src tests -name '*.bpf.o' -delete -o -name _native.so -delete
