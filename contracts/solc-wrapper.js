#!/usr/bin/env node
// Speaks the part of the native solc command line that forge uses, on top of the wasm compiler from npm:
// `--version`, and `--standard-json` with the input on stdin. Forge inlines every source, so no file is read here.
import { readFileSync, writeSync } from "node:fs";
import solc from "solc";

function write(text) {
  // A pipe may accept less than it is given; process.exit must not cut the answer short.
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(1, bytes, at);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

if (process.argv.includes("--version")) {
  write(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}\n`);
} else if (process.argv.includes("--standard-json")) {
  write(solc.compile(readFileSync(0, "utf8")));
} else {
  process.stderr.write("solc-wrapper: only --version and --standard-json are supported\n");
  process.exitCode = 2;
}
