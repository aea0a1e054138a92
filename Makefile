# Selkie: `make up` runs it, `make test` tests it. `make help` lists the rest.

# Test processes of real servers at once: two cores run two of them well.
TEST_THREADS ?= 4

# How long `make soak` kills processes before it plays seeds.
CHAOS_SECONDS ?= 600

.DEFAULT_GOAL := help
.PHONY: help up build test soak fuzz check bench

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

up: ## Install what is missing, build, run everything in the foreground (ARGS="--data-dir DIR --config FILE")
	@deploy/dev/install runtime
	@cargo build --release --locked -p selkie
	@exec cargo run --quiet --release --locked -p selkie -- up $(ARGS)

build: ## Build the release binary
	cargo build --release --locked -p selkie

test: ## Install what the tests need, run all of them
	deploy/dev/install runtime
	tests/install
	cargo test --locked --workspace --no-run
	cargo build --locked -p selkie
	cargo test --locked --workspace --exclude e2e --exclude clients --exclude differential
	cargo test --locked -p differential -- --test-threads=1
	cargo test --locked -p e2e -- --test-threads=$(TEST_THREADS)
	cargo test --locked -p clients -- --test-threads=$(TEST_THREADS)

soak: ## Kill processes for a while, then play seeds until one fails (CONTRIBUTING.md says how to play it again)
	deploy/dev/install runtime
	tests/install
	cargo build --locked -p selkie
	cargo build --locked -p sim
	CHAOS_SECONDS=$(CHAOS_SECONDS) cargo test --locked -p e2e chaos -- --nocapture
	cargo run --quiet --locked -p sim -- soak & trap "kill $$!" EXIT; \
	SOAK=1 cargo test --locked -p differential -- --nocapture seeds::sessions_see_no_difference

fuzz: ## Fuzz each target for FUZZ_SECONDS (600), one after the other (docs/fuzzing.md)
	deploy/dev/install runtime
	tests/fuzz/run $(ARGS)

check: ## Format, clippy, rustdoc, licences and sources of dependencies, what is in deploy/
	deploy/dev/install check
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --document-private-items --quiet
	cargo deny --locked check bans licenses sources
	deploy/lint

bench: ## Measure against HAProxy and a direct connection (docs/performance.md)
	loadtest/bench $(ARGS)
