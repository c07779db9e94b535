#!/bin/sh
# Checks the chain against viem, ethers, cast and anvil: builds the example node, starts it, runs every test here on it.
set -eu
cd "$(dirname "$0")"
npm ci --silent
cargo build --quiet --package cortensor-chain --example chain_node
target=$(cargo metadata --format-version 1 --no-deps | node -p 'JSON.parse(require("fs").readFileSync(0)).target_directory')
exec env CHAIN_NODE="$target/debug/examples/chain_node" node --test --test-concurrency=1 ./*.test.mjs
