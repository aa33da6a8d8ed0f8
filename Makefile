# Two targets carry the rest: `make demo` and `make test`. Both begin from nothing on a fresh machine.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Tools, servers and compiled third-party crates, shared by all clones. Set it to move them.
export FRESHET_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/freshet
export PATH := $(FRESHET_CACHE)/bin:$(PATH)

TARGET := $(or $(CARGO_TARGET_DIR),target)
LAB := $(TARGET)/debug/freshet-lab
FAULTS := --features freshet/faults

# Of the demo: how long it runs.
FOR ?= 20s
# Further arguments of what the demo, the simulation and the comparison with peers run.
ARGS ?=
# Of the cluster: how many nodes it has at least.
NODES ?= 1
# And how many Kafka brokers: 1 or 3.
BROKERS ?= 1
# And what else: of sasl, registry, postgres, prometheus.
EXTRAS ?=
# Of the simulation: how many seeds, from which one on.
SEEDS ?= 2000
FIRST_SEED ?= 1
# Of the soak: how many kills on the real Kafka.
KILLS ?= 1000

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## The fraud-detection pilot on this machine alone (FOR=20s, ARGS=…)
	@.ci/prepare demo
	@.ci/build-cache restore
	cargo build -p freshet
	@$(TARGET)/debug/freshet run examples/fraud-detection --for $(FOR) $(ARGS)

.PHONY: test
test: ## All that must hold before a change lands
	@.ci/test

.PHONY: cluster-up
cluster-up: lab ## A real Kubernetes with Kafka and S3 on this machine (NODES=1, BROKERS=1, EXTRAS=…)
	@$(LAB) cluster up --nodes $(NODES) --brokers $(BROKERS) $(addprefix --,$(EXTRAS)) $(ARGS)

.PHONY: cluster-status
cluster-status: ## What of it runs, where its logs are, what is wrong
	@$(LAB) cluster status

.PHONY: cluster-down
cluster-down: ## Ends it, and leaves nothing but its logs
	@$(LAB) cluster down

.PHONY: cluster-demo
cluster-demo: lab ## The pilot under the operator on the cluster, to its exact result (FOR=20s, ARGS=…)
	cargo build -p freshet # as users run it: without crash points
	@$(LAB) cluster demo --for $(FOR) $(ARGS)

.PHONY: e2e
e2e: lab ## The scenarios on the lab's cluster, or on the one that KUBECONFIG names
	@$(LAB) install tools
	@if [ -z "$${KUBECONFIG:-}" ]; then \
	    export FRESHET_CLUSTER="$${FRESHET_CLUSTER:-$${XDG_STATE_HOME:-$$HOME/.local/state}/freshet/cluster}"; \
	    $(LAB) cluster up; \
	    cargo nextest run -p freshet-e2e $(FAULTS) -E 'binary(/^cluster_/)' $(ARGS); \
	else \
	    echo "on the cluster of $$KUBECONFIG: only the scenarios that need no access to its processes"; \
	    cargo nextest run -p freshet-e2e $(FAULTS) -E 'binary(/^cluster_/) & test(/^anywhere::/)' $(ARGS); \
	fi

.PHONY: bench
bench: servers ## The figures of docs/performance.md
	cargo build -p freshet # as users run it: without crash points
	$(LAB) bench

.PHONY: bench-peers
bench-peers: servers ## The same queries on Flink and on Freshet (ARGS="--queries q0,q1 --records 4000000")
	$(LAB) install flink
	cargo build -p freshet # as users run it: without crash points
	$(LAB) bench peers $(ARGS)

.PHONY: simulate
simulate: ## The simulation (SEEDS=2000, FIRST_SEED=1, ARGS="--trace")
	@.ci/prepare demo
	@.ci/build-cache restore
	cargo build -p freshet $(FAULTS) --bin freshet-simulate
	$(TARGET)/debug/freshet-simulate --seeds $(SEEDS) --first-seed $(FIRST_SEED) $(ARGS)

.PHONY: soak
soak: servers ## Long versions of the tests: more seeds, more kills (KILLS=1000)
	$(MAKE) --no-print-directory simulate SEEDS=100000
	FRESHET_SOAK=1 cargo test -p freshet-sql --test planner no_clause_is_left_out
	$(LAB) soak --kills $(KILLS)

.PHONY: fmt
fmt: ## Formats the code
	cargo fmt --all

.PHONY: lint
lint: ## Format, clippy, licences and sources of dependencies
	cargo fmt --all --check
	cargo clippy --workspace $(FAULTS) --all-targets -- -D warnings
	cargo deny check licenses bans sources

.PHONY: advisories
advisories: ## Known vulnerabilities of dependencies (needs the network)
	cargo deny check advisories

.PHONY: docs
docs: ## The documentation of all crates, in target/doc
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

.PHONY: generate
generate: ## Files that are made from code: crds/*.yaml and docs/metrics.md
	cargo run -p freshet-crds --bin crdgen
	FRESHET_GENERATE=1 cargo test -p freshet --lib metrics::

.PHONY: lab
lab: # The lab program, the images' programs, and nothing installed.
	@.ci/prepare test
	@.ci/build-cache restore
	cargo build --workspace $(FAULTS)

.PHONY: servers
servers: # The lab program, and the servers and tools that it installs once.
	@.ci/prepare test
	@.ci/build-cache restore
	cargo build --workspace $(FAULTS)
	$(LAB) install tools kafka s3
