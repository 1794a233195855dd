# Each target does all of its own set-up from a bare checkout with Python 3.11 or newer, in .venv/.
.PHONY: help demo test interop fuzz chaos bench bench-compare bench-growth bench-ledger stripe-live lint fmt docs proto captures compatibility lock
.DEFAULT_GOAL := help

# The first of these that is at least 3.11, or else one that says so; `make test PYTHON=/path/to/python` takes another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && exit; done; echo python3)
BIN := .venv/bin
# What is compiled when the package is installed, where there is a compiler.
COMPILED := hatch_build.py $(wildcard otel_usageflow/model/_*.[ch])
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE := .venv-lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --extra demo \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

help: ## this list; ARGS="..." is passed on to the command of a target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: .venv/.demo ## watch requests of a sample API become meter events at a local Stripe double
	$(BIN)/otel-usageflow demo $(ARGS)

test: .venv/.dev ## all tests; with REQUIRE_ALL=1 a test that cannot run here fails
	$(BIN)/pytest $(ARGS)

fuzz: .venv-fuzz/.done ## decoding and policies on bytes that atheris makes up, for a minute; ARGS="--seconds 600"
	.venv-fuzz/bin/python tests/fuzz/run.py $(ARGS)

interop: .venv/.dev ## with programs of others: a Collector, SDKs for Node and Java, Stripe's own mock; builds them first
	$(BIN)/python tests/interop/prepare.py
	REQUIRE_ALL=1 $(BIN)/pytest tests/interop $(ARGS)

chaos: .venv/.dev ## kill -9 two hundred times under load, with every fault of the Stripe double; some ten minutes
	CHAOS_KILLS=200 $(BIN)/pytest --timeout=0 -s -v tests/e2e/test_kill_nine.py $(ARGS)

bench: .venv/.dev .venv-bench/.done ## how much the service takes, beside an empty gRPC server; some ten minutes; ARGS=--quick
	PYTHONPATH=benchmarks $(BIN)/python -m throughput $(ARGS)

bench-compare: .venv/.dev ## two results of make bench side by side: A=benchmarks/results/OLD.json B=...
	PYTHONPATH=benchmarks $(BIN)/python -m throughput.compare $(A) $(B) $(ARGS)

bench-growth: .venv/.dev ## what a batch costs as policies, records, users and all else grow; half an hour; ARGS=--quick
	PYTHONPATH=benchmarks $(BIN)/python -m growth $(ARGS)

bench-ledger: .venv/.dev ## what a ledger of 20 million records costs; some ten minutes and 3 GB of disk
	PYTHONPATH=benchmarks $(BIN)/python benchmarks/ledger_at_scale.py $(ARGS)

stripe-live: .venv/.dev ## against a Stripe sandbox: STRIPE_TEST_KEY=sk_test_... in the environment; see docs/stripe.md
	PYTHONPATH=tests/support $(BIN)/python tests/live/run.py

lint: .venv/.dev ## style, types and the layers between the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: .venv/.dev ## put the code into form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: .venv/.dev ## write the JSON schema of the configuration, which editors read
	$(BIN)/otel-usageflow components --schema > .venv/schema.json
	mv .venv/schema.json collector_config/schema.json

proto: .venv-proto/.done ## generate otel_usageflow/proto from proto/
	.venv-proto/bin/python -m grpc_tools.protoc --proto_path=proto --python_out=. --pyi_out=. \
		proto/otel_usageflow/proto/spans/v1/spans.proto \
		proto/otel_usageflow/proto/expressions/v1/expressions.proto

captures: | .venv/bin/python ## record the spans of tests/captures again; needs Node, Go and Java
	$(PYTHON) tests/captures/record.py $(ARGS)

compatibility: .venv/.dev ## run every instrumentation there is and write docs/compatibility.md; needs Node, Go and Java
	$(BIN)/python tests/captures/environments.py
	$(BIN)/python tests/captures/compatibility.py

lock: .venv-lock/.done ## resolve the dependencies again, to the newest; ARGS=--upgrade
	$(COMPILE) $(ARGS) --extra parquet --output-file requirements/dev.txt pyproject.toml requirements/dev.in
	$(COMPILE) $(ARGS) --output-file requirements/demo.txt pyproject.toml requirements/demo.in
	$(COMPILE) $(ARGS) --output-file requirements/fuzz.txt pyproject.toml requirements/fuzz.in

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'otel_usageflow needs Python 3.11 or newer, and "$(PYTHON)" is none.' \
		'Install one, or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.demo: requirements/demo.txt pyproject.toml $(COMPILED) | .venv/bin/python
	$(INSTALL) --require-hashes -r requirements/demo.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: requirements/dev.txt pyproject.toml $(COMPILED) | .venv/bin/python
	$(INSTALL) --require-hashes -r requirements/dev.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@ .venv/.demo

# In a place of its own: where atheris cannot be had, nothing else is missing.
.venv-fuzz/.done: requirements/fuzz.txt pyproject.toml $(COMPILED)
	@test -x .venv-fuzz/bin/python || $(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check --only-binary=atheris \
		--require-hashes -r requirements/fuzz.txt
	.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# An old generator, so that its code runs with every protobuf from 5.26 on: see proto/README.md.
.venv-proto/.done: | .venv/bin/python
	$(PYTHON) -m venv .venv-proto
	.venv-proto/bin/python -m pip install --quiet "grpcio-tools==1.65.5" "setuptools<80"
	@touch $@

# What only measuring needs: Rotel to measure beside, where there is a wheel of it, and matplotlib for the picture.
.venv-bench/.done: | .venv/bin/python
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet "matplotlib==3.11.2"
	-.venv-bench/bin/python -m pip install --quiet --only-binary=:all: --pre "rotel==0.0.1a15"
	@touch $@

.venv-lock/.done: | .venv/bin/python
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet pip-tools
	@touch $@
