# The commands of this repository. `make demo` and `make test` install what they need first (scripts/setup).

# One cache for every clone on this machine, so that dependencies are compiled once.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
export CARGO_TARGET_DIR ?= $(CACHE)/cortensor/target

.PHONY: demo up test test-rust test-contracts test-clients lint fmt bench-smoke setup

## Runs the whole network on this machine once: asks, streams, kills a miner, settles, shows the money.
demo: setup
	cargo run --quiet -p cortensor -- demo

## The same network, staying up, with an OpenAI-compatible endpoint.
up: setup
	cargo run --quiet -p cortensor -- up

setup:
	@scripts/setup build

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
bench-smoke:
	cargo run --quiet -p cortensor -- bench all --smoke --json
