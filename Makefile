# The commands of this repository. `make demo` and `make test` install what they need first (scripts/setup).

# One cache for every clone on this machine, so that dependencies are compiled once.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
export CARGO_TARGET_DIR ?= $(CACHE)/cortensor/target
BINARY := $(CARGO_TARGET_DIR)/debug/cortensor

.PHONY: demo up build test test-rust test-contracts test-clients lint fmt fuzz bench-smoke

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

## Formatting, clippy, layers, and that what is committed of the contracts (artifacts, gas, deployment) is what they give.
lint:
	@scripts/setup test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	scripts/check-layers
	scripts/check-headers
	cd contracts && for check in fmt artifacts snapshot deploy; do npm run --silent $$check:check || exit 1; done

fmt:
	cargo fmt --all

## Attacks one decoder of outside bytes for some seconds with libFuzzer: `make fuzz TARGET=wire SECONDS=60`. What breaks it is
## written to crates/decoders/corpus/$(TARGET)/; keep the file after the repair, `make test` replays it. SECONDS is per run.
TARGET ?= wire
fuzz: SECONDS := $(or $(SECONDS),60)
fuzz:
	@scripts/setup build
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/scripts/instrument cargo build -p cortensor-decoders --features libfuzzer --bin fuzz
	@mkdir -p $(CARGO_TARGET_DIR)/fuzz/$(TARGET)
	CORTENSOR_FUZZ_TARGET=$(TARGET) $(CARGO_TARGET_DIR)/debug/fuzz $(CARGO_TARGET_DIR)/fuzz/$(TARGET) \
	  crates/decoders/corpus/$(TARGET) -artifact_prefix=crates/decoders/corpus/$(TARGET)/ \
	  -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=4096 -max_len=16384 -print_final_stats=1

## Every benchmark once, briefly: that they run, not how fast.
bench-smoke: build
	$(BINARY) bench all --smoke --json
