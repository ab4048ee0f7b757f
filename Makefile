# Everything that people and CI do here. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
export UV_LINK_MODE ?= copy
export UV_NO_PROGRESS ?= 1

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

run: .venv/.complete ## start everything and print how to call it; Ctrl-C stops it
	@exec .venv/bin/decisiongraph run

test: .venv/.complete ## run all tests, three files at a time
	@exec .venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

fuzz: .venv/.complete ## fuzz REST by the OpenAPI document, and every decoder, longer than `make test` does (EXAMPLES=100 SEED=…)
	FUZZ_EXAMPLES="$${EXAMPLES:-100}" FUZZ_SEED="$${SEED:-$$RANDOM}" \
	  .venv/bin/python -m pytest --log-cli-level=INFO tests/unit/test_*_fuzz.py tests/e2e/test_*_fuzz.py

check: .venv/.complete ## check format, lint, types, import rules, the contract and the image
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python tools/make_blocking_client.py --check
	.venv/bin/buf format --diff --exit-code proto
	tools/fetch_protos.sh
	.venv/bin/buf lint
	.venv/bin/hadolint deploy/Dockerfile
	.venv/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml

breaking: .venv/.complete ## compare the contract with that of BASE (a git ref)
	tools/fetch_protos.sh
	tools/check_breaking.sh "$(BASE)"

generate: .venv/.complete ## write generated/ from proto/ (needs Go)
	tools/generate.sh
	.venv/bin/python tools/make_blocking_client.py

docs: .venv/.complete ## build the documentation site into site/; what leads nowhere is an error
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

docs-serve: .venv/.complete ## show the documentation site on http://127.0.0.1:8000 while you write it
	@NO_MKDOCS_2_WARNING=1 exec .venv/bin/mkdocs serve --dev-addr 127.0.0.1:8000

bench: .venv/.complete ## measure the service end to end beside its ceilings (a quarter of an hour, needs Go; BENCH=--check)
	.venv/bin/python -m bench.baseline $(BENCH)

torture: .venv/.complete ## kill, cut, pause and flood the parts under load, then check what was promised (minutes)
	.venv/bin/python -m torture $(TORTURE)

audit: .venv/.complete ## list what the service is made of (SBOM) and known vulnerabilities in it
	tools/audit_dependencies.sh

format: .venv/.complete ## format the code and the contract
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .
	.venv/bin/buf format -w proto

setup: .venv/.complete ## build the environment in .venv

clean: ## remove environment and caches; the data in .run stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache third_party dist site

.venv/.complete: uv.lock pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "No Python found. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$("$(PYTHON)" --version), and 3.11 or newer is needed. Name another: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Building the environment in .venv (a few seconds to a minute) ..."
	@[ -x .venv/bin/python ] || "$(PYTHON)" -m venv .venv || { echo "Python cannot make environments here; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@.venv/bin/uv --version 2>/dev/null | grep -qF "$(UV_VERSION)" || .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@VIRTUAL_ENV= .venv/bin/uv sync --quiet --frozen --all-extras --compile-bytecode --python .venv/bin/python
	@.venv/bin/python -m compileall -q src generated/python
	@touch $@

.PHONY: help run test fuzz check audit torture docs docs-serve bench breaking generate format setup clean
