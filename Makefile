# The commands of this repository. `make demo` and `make test` install what they need first (scripts/setup).

# One cache for every clone on this machine, so that dependencies are compiled once.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
export CARGO_TARGET_DIR ?= $(CACHE)/cortensor/target
BINARY := $(CARGO_TARGET_DIR)/debug/cortensor

.PHONY: demo up build test test-rust test-contracts test-clients lint fmt bench-smoke

## Runs the whole network on this machine once: asks, streams, kills a miner, settles, shows the money.
demo: build
	$(BINARY) demo

## The same network, staying up, with an OpenAI-compatible endpoint.
up: build
	$(BINARY) up

# The whole workspace with its examples: like the tests they take development dependencies in, so that both agree on the
# features of every dependency and nothing
# is compiled twice.
build:
	@scripts/setup build
	cargo build --workspace --bins --examples

## Everything that must pass.
test: test-contracts test-rust test-clients

test-rust:
	@scripts/setup test
	cargo test --workspace

test-contracts:
	@scripts/setup test
	cd contracts && npm test

## Real clients against a real network: the OpenAI and Anthropic Python clients, viem, ethers and cast.
test-clients:
	@scripts/setup test
	tests/run

## Lints that need nothing but the compiler; `lint` is what CI runs.
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	scripts/check-layers
	scripts/check-headers
	cd contracts && npm run --silent artifacts:check

fmt:
	cargo fmt --all

## Every benchmark once, briefly: that they run, not how fast.
bench-smoke: build
	$(BINARY) bench all --smoke --json
